"""KServe v2's inference request and answer over HTTP: JSON, with Triton's binary-tensor extension."""

from functools import lru_cache
from typing import Any

from nanocv_cli.engine.signature import NUMPY_TYPES, to_bytes
from nanocv_cli.serving.embedded.asking import LARGEST_RANK, LONGEST_ID, InferInput, InferRequest, RequestedOutput
from nanocv_cli.serving.embedded.encoding import ENCODE, parse_object, text_size, to_text
from nanocv_cli.serving.embedded.faults import Fault, Status, TooLarge, shown
from nanocv_cli.serving.embedded.http.messages import Body
from nanocv_cli.serving.embedded.inference import InferOutput
from nanocv_cli.serving.embedded.model import LoadedModel

HEADER_LENGTH = "inference-header-content-length"
LARGEST_SIZE = 1 << 40


def json_length(body: Body, header_length: str | None, limit: int) -> int:
    """How much of a request's body is JSON; the bytes of binary tensors follow.

    Args:
        body: of the request.
        header_length: the header that says where the JSON ends; None where all of it is JSON.
        limit: bytes of JSON.

    Raises:
        Fault: more than there is, or more than `limit`.
    """
    length = len(body)
    if header_length is not None:
        is_number = header_length.isascii() and header_length.isdigit() and len(header_length) < 20
        length = int(header_length) if is_number else -1
        if not 0 < length <= len(body):
            raise Fault(f"inference header size should be in range (0, {len(body)}), got: {shown(header_length)}")
    if length > limit:
        raise TooLarge(limit, "the request's JSON (tensors may be sent as binary data)")
    return length


def parse_request(body: Body, length: int, model: LoadedModel) -> InferRequest:
    """An inference request from its body.

    Args:
        body: the JSON document, followed by the bytes of binary tensors.
        length: of the JSON.
        model: whom it is for, for the messages.

    Raises:
        Fault: it is not a request.
    """
    document = parse_object(bytes(body[:length]))
    if not isinstance(document.get("inputs"), list):
        raise Fault("Unable to parse 'inputs': attempt to access non-existing object member 'inputs'")
    parameters = _object(document, "parameters")
    tail, place, inputs = memoryview(body)[length:], 0, []
    for entry in document["inputs"]:
        tensor, size = _given(entry, tail[place:], model)
        inputs.append(tensor)
        place += size
    if place != len(tail):
        raise Fault(f"unexpected additional input data for model '{model.name}'")
    binary = _flag(parameters, "binary_data_output")
    outputs = document.get("outputs", [])
    if not isinstance(outputs, list):
        raise Fault("Unable to parse 'outputs': expected a list")
    wanted = [_wanted(entry, binary) for entry in outputs]
    request_id = document.get("id", "")
    if not isinstance(request_id, str) or len(request_id) > LONGEST_ID:
        raise Fault(f"Unable to parse 'id': expected a string of at most {LONGEST_ID:,} characters")
    return InferRequest(request_id, inputs, wanted, _number(parameters, "timeout"), length, binary, parameters)


def text_bytes(outputs: list[InferOutput], limit: int) -> int:
    """How much JSON the values of an answer will be at most.

    Raises:
        Fault: more than `limit`.
    """
    size = sum(text_size(output.array) for output in outputs if not output.binary)
    if size > limit:
        raise Fault(
            f"the answer may be {size:,} bytes of JSON, and at most {limit:,} are sent; ask for it as binary data"
        )
    return size


def render_answer(model: LoadedModel, request_id: str, outputs: list[InferOutput]) -> tuple[bytes, int | None]:
    """An answer's body, and the length of its JSON where binary tensors follow.

    Raises:
        Fault: an output holds what JSON cannot say.
    """
    described, tails = [], []
    for output in outputs:
        if output.binary:
            tails.append(to_bytes(output.array))
            described.append(_binary(output.name, output.datatype, output.array.shape, len(tails[-1])))
        else:
            named = _named(output.name, output.datatype, output.array.shape)
            described.append(f'{{{named},"data":{to_text(output.array)}}}')
    asked = f'"id":{ENCODE(request_id)},' if request_id else ""
    header = f'{{{asked}{_answered(model.name, model.version)},"outputs":[{",".join(described)}]}}'.encode()
    return (b"".join([header, *tails]), len(header)) if tails else (header, None)


@lru_cache(1024)
def _answered(model: str, version: int) -> str:
    return f'"model_name":{ENCODE(model)},"model_version":"{version}"'


def _named(name: str, datatype: str, shape: tuple[int, ...]) -> str:
    return f'"name":{ENCODE(name)},"datatype":"{datatype}","shape":[{",".join(map(str, shape))}]'


@lru_cache(1024)
def _binary(name: str, datatype: str, shape: tuple[int, ...], size: int) -> str:
    return f'{{{_named(name, datatype, shape)},"parameters":{{"binary_data_size":{size}}}}}'


def _given(entry: Any, tail: memoryview, model: LoadedModel) -> tuple[InferInput, int]:
    """One input, and how many bytes of the tail are its."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise Fault("Unable to parse 'inputs': every input needs a 'name'")
    name, kind, shape = entry["name"], entry.get("datatype"), entry.get("shape")
    if not isinstance(kind, str) or kind not in NUMPY_TYPES:
        raise Fault(f"invalid datatype for input {shown(name)}")
    if (
        not isinstance(shape, list)
        or len(shape) > LARGEST_RANK
        or not all(type(size) is int and 0 <= size < LARGEST_SIZE for size in shape)
    ):
        raise Fault(f"Unable to parse 'shape' of input '{shown(name)}': expected a list of sizes from 0 on")
    parameters = _object(entry, "parameters")
    if "shared_memory_region" in parameters:
        raise Fault(
            f"input '{shown(name)}' lies in shared memory, which this server does not map; send its bytes",
            Status.UNSUPPORTED,
        )
    has_values, size = "data" in entry, _number(parameters, "binary_data_size")
    has_bytes = "binary_data_size" in parameters
    if has_values == has_bytes:
        which = "no field is set" if not has_values else "both are set"
        raise Fault(
            "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
            f"'shared_memory_region' in 'parameters'. But {which}"
        )
    if size > len(tail):
        raise Fault(
            f"unexpected size for input '{shown(name)}', expecting {size - len(tail)} additional bytes for model "
            f"'{model.name}'"
        )
    raw = tail[:size] if has_bytes else None
    return InferInput(name, kind, tuple(shape), raw, entry.get("data")), size if has_bytes else 0


def _wanted(entry: Any, binary: bool) -> RequestedOutput:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise Fault("Unable to parse 'outputs': every output needs a 'name'")
    parameters = _object(entry, "parameters")
    if "shared_memory_region" in parameters:
        raise Fault(
            f"output '{shown(entry['name'])}' is to lie in shared memory, which this server does not map",
            Status.UNSUPPORTED,
        )
    own = _flag(parameters, "binary_data") if "binary_data" in parameters else binary
    return RequestedOutput(entry["name"], _number(parameters, "classification"), own)


def _object(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key, {})
    if not isinstance(value, dict):
        raise Fault(f"Unable to parse '{key}': expected an object")
    return value


def _number(parameters: dict[str, Any], key: str) -> int:
    value = parameters.get(key, 0)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise Fault(f"Unable to parse parameter '{key}': expected a number from 0 on")
    return value


def _flag(parameters: dict[str, Any], key: str) -> bool:
    value = parameters.get(key, False)
    if not isinstance(value, bool):
        raise Fault(f"Unable to parse parameter '{key}': expected true or false")
    return value
