"""KServe v2's inference request over gRPC: its message, decoded within bounds."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import DecodeError, Message
from tritonclient.grpc import service_pb2 as pb

from nanocv_cli.engine.signature import NUMPY_TYPES
from nanocv_cli.serving.embedded.asking import LARGEST_RANK, LONGEST_ID, InferInput, InferRequest, RequestedOutput
from nanocv_cli.serving.embedded.background import SMALL
from nanocv_cli.serving.embedded.faults import Fault, Status, shown
from nanocv_cli.serving.embedded.outlines import LONGEST_TEXT

MOST_FIELDS = 4096
CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
RAW_INPUTS = 7 << 3 | BYTES  # the key of the field of `ModelInferRequest` that holds tensors as bytes


def fields(content: bytes) -> Iterator[tuple[int, int, int]]:
    """The fields of a message: the key of each (number and wire type), where its value begins, and where it ends.

    Raises:
        Fault: there are too many, or it is no message: a value ends behind it, too.
    """
    place, end = 0, len(content)
    for _ in range(MOST_FIELDS):
        if place >= end:
            return
        key, start = _varint(content, place)
        kind = key & 7
        if kind == BYTES:
            size, start = _varint(content, start)
            place = start + size
        elif kind == VARINT:
            _, place = _varint(content, start)
        elif kind in (FIXED64, FIXED32):
            place = start + (8 if kind == FIXED64 else 4)
        else:
            raise Fault("the message cannot be decoded")
        if place > end:
            raise Fault("the message cannot be decoded")
        yield key, start, place
    if place < end:
        raise Fault(f"the message holds more than {MOST_FIELDS:,} fields")


def beside_tensors(content: bytes) -> int:
    """How many bytes of an inference request are something else than raw tensors; all of it, where it is small.

    Decoded, each byte of such may take fifty, and each empty field a hundred: that is found out before.

    Raises:
        Fault: it holds too many fields, or is no message.
    """
    if len(content) <= SMALL:
        return len(content)
    return len(content) - sum(end - start for key, start, end in fields(content) if key == RAW_INPUTS)


def text_before_tensor(content: bytes) -> bytes:
    """An inference request but for the numbers of its one raw tensor, with which it ends.

    Empty if it does not end so, and if there is so much of it that it is not to be kept.
    """
    try:
        raw = [(start, end) for key, start, end in fields(content) if key == RAW_INPUTS]
    except Fault:  # it has more fields than are worth looking through
        return b""
    is_end = len(raw) == 1 and raw[0][1] == len(content)
    return content[: raw[0][0]] if is_end and raw[0][0] <= LONGEST_TEXT else b""


def decoded(kind: type[Message], content: bytes) -> Any:
    """A message from its bytes.

    Raises:
        Fault: they are not one.
    """
    try:
        return kind.FromString(content)
    except DecodeError as error:
        raise Fault(f"the message cannot be decoded as {kind.DESCRIPTOR.name}") from error


def asked_model(request: Any) -> tuple[str, str]:
    """Name and version of the model that a request other than an inference names; empty where it names none."""
    names = request.DESCRIPTOR.fields_by_name
    if "model_name" in names:
        return request.model_name, ""
    # A region of shared memory has a name too, but no version.
    return (request.name, request.version) if "version" in names else ("", "")


def named(content: bytes) -> Any:
    """The answer to a request that was refused: its names, if they can be read."""
    try:
        request = decoded(pb.ModelInferRequest, content) if len(content) <= SMALL else pb.ModelInferRequest()
    except Fault:
        request = pb.ModelInferRequest()
    return pb.ModelInferResponse(model_name=request.model_name, id=request.id)


def parse_request(request: Any, beside: int) -> InferRequest:
    """An inference request from its message; `beside` bytes of it are no raw tensors."""
    if len(request.id) > LONGEST_ID:
        raise Fault(f"the request's id is longer than {LONGEST_ID:,} characters")
    if request.raw_input_contents and len(request.raw_input_contents) != len(request.inputs):
        raise Fault(
            f"expected raw contents for {len(request.inputs)} inputs, got them for {len(request.raw_input_contents)}"
        )
    inputs = []
    for place, tensor in enumerate(request.inputs):
        if tensor.datatype not in NUMPY_TYPES:
            raise Fault(f"invalid datatype for input {shown(tensor.name)}")
        if len(tensor.shape) > LARGEST_RANK:
            raise Fault(f"input '{shown(tensor.name)}' has more than {LARGEST_RANK} dimensions")
        if "shared_memory_region" in tensor.parameters:
            raise Fault(
                f"input '{shown(tensor.name)}' lies in shared memory, which this server does not map; send its bytes",
                Status.UNSUPPORTED,
            )
        raw = request.raw_input_contents[place] if request.raw_input_contents else None
        values = None if raw is not None else _typed_values(tensor)
        inputs.append(InferInput(tensor.name, tensor.datatype, tuple(tensor.shape), raw, values, from_text=False))
    wanted = [RequestedOutput(output.name, _classes(output), binary=True) for output in request.outputs]
    parameters = parameters_of(request)
    timeout = parameters.get("timeout", 0)
    timeout = timeout if type(timeout) is int and timeout >= 0 else 0
    texts = 0 if request.raw_input_contents else beside
    return InferRequest(request.id, inputs, wanted, timeout, texts, True, parameters)


def parameters_of(message: Any) -> dict[str, Any]:
    return {
        key: getattr(value, value.WhichOneof("parameter_choice") or "int64_param")
        for key, value in message.parameters.items()
    }


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = shift = 0
    for byte in content[place : place + 10]:
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
    raise Fault("the message cannot be decoded")


def _typed_values(tensor: Any) -> list[Any]:
    name = CONTENTS.get(tensor.datatype)
    if name is None:
        raise Fault(f"input '{shown(tensor.name)}' of {tensor.datatype} must come in raw_input_contents")
    return list(getattr(tensor.contents, name))


def _classes(output: Any) -> int:
    value = parameters_of(output).get("classification", 0)
    if type(value) is not int or value < 0:
        raise Fault(f"invalid value for 'classification' parameter of output '{shown(output.name)}', expected a count")
    if "shared_memory_region" in output.parameters:
        raise Fault(
            f"output '{shown(output.name)}' is to lie in shared memory, which this server does not map",
            Status.UNSUPPORTED,
        )
    return value
