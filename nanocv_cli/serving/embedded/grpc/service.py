"""The gRPC side: KServe v2's service, with Triton's extensions; its messages are decoded within bounds."""

from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from tritonclient.grpc import service_pb2 as pb

from nanocv_cli.engine.signature import NUMPY_TYPES
from nanocv_cli.serving.embedded import management
from nanocv_cli.serving.embedded.access import Access
from nanocv_cli.serving.embedded.asking import LARGEST_RANK, LONGEST_ID, InferInput, InferRequest, RequestedOutput
from nanocv_cli.serving.embedded.background import SMALL, SmallestFirstExecutor
from nanocv_cli.serving.embedded.encoding import to_bytes
from nanocv_cli.serving.embedded.faults import Fault, Status, shown
from nanocv_cli.serving.embedded.grpc.open_calls import OpenCall
from nanocv_cli.serving.embedded.inference import complete
from nanocv_cli.serving.embedded.library import Library
from nanocv_cli.serving.embedded.management import counted_models, expect_name, load_override

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
RAW_INPUTS = 7  # the field of `ModelInferRequest` that holds tensors as bytes
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def beside_tensors(content: bytes) -> int:
    """How many bytes of an inference request are something else than raw tensors; all of it, where it is small.

    Decoded, each byte of such may take fifty, and each empty field a hundred: that is found out before.

    Raises:
        Fault: it holds too many fields, or is no message.
    """
    if len(content) <= SMALL:
        return len(content)
    place, beside, end = 0, len(content), len(content)
    for _ in range(MOST_FIELDS):
        if place >= end:
            return beside
        key, place = _varint(content, place)
        kind = key & 7
        if kind == BYTES:
            size, place = _varint(content, place)
            place += size
            if key >> 3 == RAW_INPUTS:
                beside -= size
        elif kind == VARINT:
            _, place = _varint(content, place)
        elif kind in (FIXED64, FIXED32):
            place += 8 if kind == FIXED64 else 4
        else:
            raise Fault("the message cannot be decoded")
    raise Fault(f"the message holds more than {MOST_FIELDS:,} fields")


def decoded(kind: type[Message], content: bytes) -> Any:
    """A message from its bytes.

    Raises:
        Fault: they are not one.
    """
    try:
        return kind.FromString(content)
    except DecodeError as error:
        raise Fault(f"the message cannot be decoded as {kind.DESCRIPTOR.name}") from error


def named(content: bytes) -> Any:
    """The answer to a request that was refused: its names, if they can be read."""
    try:
        request = decoded(pb.ModelInferRequest, content) if len(content) <= SMALL else pb.ModelInferRequest()
    except Fault:
        request = pb.ModelInferRequest()
    return pb.ModelInferResponse(model_name=request.model_name, id=request.id)


class GrpcService:
    """KServe v2 over gRPC: a method for each of the protocol's, which takes a message and returns one.

    Args:
        library: the models.
        access: who may change them.
        executor: where long work on requests is done.
    """

    def __init__(self, library: Library, access: Access, executor: SmallestFirstExecutor) -> None:
        self._library, self._access, self._executor = library, access, executor

    async def ServerLive(self, request: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any) -> Any:
        return pb.ServerReadyResponse(ready=self._library.ready)

    async def ModelReady(self, request: Any) -> Any:
        return pb.ModelReadyResponse(ready=self._library.answers(request.name, request.version))

    async def ServerMetadata(self, request: Any) -> Any:
        return pb.ServerMetadataResponse(**management.server_metadata())

    async def ModelMetadata(self, request: Any) -> Any:
        model = self._library.find(request.name, request.version)
        metadata = management.model_metadata(model, self._library.versions(model.name))
        return json_format.ParseDict(metadata, pb.ModelMetadataResponse())

    async def ModelConfig(self, request: Any) -> Any:
        return pb.ModelConfigResponse(config=self._library.find(request.name, request.version).config)

    async def ModelStatistics(self, request: Any) -> Any:
        models = counted_models(self._library, request.name, request.version)
        return json_format.ParseDict(management.statistics(models), pb.ModelStatisticsResponse())

    async def RepositoryIndex(self, request: Any) -> Any:
        models = management.repository_index(self._library, request.ready)
        return json_format.ParseDict({"models": models}, pb.RepositoryIndexResponse())

    async def RepositoryModelLoad(self, request: Any) -> Any:
        self._access.check_control()
        expect_name(request.model_name)
        await self._library.load(request.model_name, load_override(_parameters_of(request)))
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any) -> Any:
        self._access.check_control()
        expect_name(request.model_name)
        await self._library.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    async def infer(self, request: Any, beside: int, call: OpenCall) -> Any:
        """An inference, asked for by either method.

        Args:
            request: as decoded.
            beside: bytes of it that are no raw tensors.
            call: whose it is.

        Raises:
            Fault: it fails.
        """
        call.exchange.asks(request.model_name, request.model_version)
        model = self._library.find(request.model_name, request.model_version)
        asked = await self._executor.run(beside, _parse_request, request, beside)
        outputs = await complete(model, asked, call.holding, self._executor, call.exchange)
        response = pb.ModelInferResponse(model_name=model.name, model_version=str(model.version), id=request.id)
        for output in outputs:
            response.outputs.add(name=output.name, datatype=output.datatype, shape=output.array.shape)
            response.raw_output_contents.append(to_bytes(output.array))
        return response

    async def unsupported(self, request: Any) -> Any:
        """What this server has not."""
        raise Fault("this server has no shared memory, tracing or log settings", Status.UNSUPPORTED)


def _parse_request(request: Any, beside: int) -> InferRequest:
    """An inference request from its message; see `GrpcService.infer`."""
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
        inputs.append(InferInput(tensor.name, tensor.datatype, tuple(tensor.shape), raw, values))
    wanted = [RequestedOutput(output.name, _classes(output), binary=True) for output in request.outputs]
    parameters = _parameters_of(request)
    timeout = parameters.get("timeout", 0)
    timeout = timeout if type(timeout) is int and timeout >= 0 else 0
    texts = 0 if request.raw_input_contents else beside
    return InferRequest(request.id, inputs, wanted, timeout, texts, True, parameters)


def _parameters_of(message: Any) -> dict[str, Any]:
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
    values: list[Any] = list(getattr(tensor.contents, name))
    if tensor.datatype != "BYTES":
        return values
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError as error:
        raise Fault(f"input '{shown(tensor.name)}' is not UTF-8; send it in raw_input_contents") from error


def _classes(output: Any) -> int:
    value = _parameters_of(output).get("classification", 0)
    if type(value) is not int or value < 0:
        raise Fault(f"invalid value for 'classification' parameter of output '{shown(output.name)}', expected a count")
    if "shared_memory_region" in output.parameters:
        raise Fault(
            f"output '{shown(output.name)}' is to lie in shared memory, which this server does not map",
            Status.UNSUPPORTED,
        )
    return value
