"""The gRPC side: KServe v2's service, with Triton's extensions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import json_format
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as service

from nanocv_cli.serving.datatypes import NUMPY_TYPES
from nanocv_cli.serving.embedded import documents
from nanocv_cli.serving.embedded.calls import Budget, Call, GivenTensor, WantedOutput, answer
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.http_service import counted_models, load_override
from nanocv_cli.serving.embedded.library import Library
from nanocv_cli.serving.embedded.model import LoadedModel
from nanocv_cli.serving.embedded.tensors import to_bytes

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
if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]


class GrpcService(service.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """KServe v2 over gRPC.

    Args:
        library: the models.
        budget: of bytes in flight.
    """

    def __init__(self, library: Library, budget: Budget) -> None:
        self._library, self._budget = library, budget

    async def ServerLive(self, request: Any, context: Context) -> Any:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Context) -> Any:
        return pb.ServerReadyResponse(ready=self._library.ready)

    async def ModelReady(self, request: Any, context: Context) -> Any:
        return pb.ModelReadyResponse(ready=self._library.answers(request.name, request.version))

    async def ServerMetadata(self, request: Any, context: Context) -> Any:
        return pb.ServerMetadataResponse(**documents.server_metadata())

    async def ModelMetadata(self, request: Any, context: Context) -> Any:
        model = await self._found(request.name, request.version, context)
        document = documents.model_metadata(model, self._library.versions(model.name))
        return json_format.ParseDict(document, pb.ModelMetadataResponse())

    async def ModelConfig(self, request: Any, context: Context) -> Any:
        model = await self._found(request.name, request.version, context)
        return pb.ModelConfigResponse(config=model.config)

    async def ModelStatistics(self, request: Any, context: Context) -> Any:
        try:
            models = counted_models(self._library, request.name, request.version)
        except Fault as fault:
            await _abort(context, fault)
        return json_format.ParseDict(documents.statistics(models), pb.ModelStatisticsResponse())

    async def RepositoryIndex(self, request: Any, context: Context) -> Any:
        try:
            models = documents.repository_index(self._library, request.ready)
        except Fault as fault:
            await _abort(context, fault)
        return json_format.ParseDict({"models": models}, pb.RepositoryIndexResponse())

    async def RepositoryModelLoad(self, request: Any, context: Context) -> Any:
        try:
            await self._library.load(request.model_name, load_override(_parameters(request)))
        except Fault as fault:
            await _abort(context, fault)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Context) -> Any:
        try:
            await self._library.unload(request.model_name)
        except Fault as fault:
            await _abort(context, fault)
        return pb.RepositoryModelUnloadResponse()

    async def ModelInfer(self, request: Any, context: Context) -> Any:
        try:
            return await self._infer(request)
        except Fault as fault:
            await _abort(context, fault)

    async def ModelStreamInfer(self, requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        async for request in requests:
            try:
                yield pb.ModelStreamInferResponse(infer_response=await self._infer(request))
            except Fault as fault:
                refused = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
                yield pb.ModelStreamInferResponse(error_message=fault.message, infer_response=refused)

    async def _unsupported(self, request: Any, context: Context) -> Any:
        await _abort(context, Fault("this server has no shared memory, tracing or log settings", Status.UNSUPPORTED))

    SystemSharedMemoryStatus = SystemSharedMemoryRegister = SystemSharedMemoryUnregister = _unsupported
    CudaSharedMemoryStatus = CudaSharedMemoryRegister = CudaSharedMemoryUnregister = _unsupported
    TraceSetting = LogSettings = _unsupported

    async def _found(self, name: str, version: str, context: Context) -> LoadedModel:
        try:
            return self._library.find(name, version)
        except Fault as fault:
            await _abort(context, fault)
            raise

    async def _infer(self, request: Any) -> Any:
        with self._budget.reserved(request.ByteSize()):
            model = self._library.find(request.model_name, request.model_version)
            outputs = await answer(model, _call(request))
        response = pb.ModelInferResponse(model_name=model.name, model_version=str(model.version), id=request.id)
        for output in outputs:
            response.outputs.add(name=output.name, datatype=output.datatype, shape=output.array.shape)
            response.raw_output_contents.append(to_bytes(output.array))
        return response


def _call(request: Any) -> Call:
    if request.raw_input_contents and len(request.raw_input_contents) != len(request.inputs):
        raise Fault(
            f"expected raw contents for {len(request.inputs)} inputs, got them for {len(request.raw_input_contents)}"
        )
    inputs = []
    for place, tensor in enumerate(request.inputs):
        if tensor.datatype not in NUMPY_TYPES:
            raise Fault(f"invalid datatype for input {tensor.name}")
        if "shared_memory_region" in tensor.parameters:
            raise Fault(
                f"input '{tensor.name}' lies in shared memory, which this server does not map; send its bytes",
                Status.UNSUPPORTED,
            )
        raw = request.raw_input_contents[place] if request.raw_input_contents else None
        values = None if raw is not None else _typed_values(tensor)
        inputs.append(GivenTensor(tensor.name, tensor.datatype, tuple(tensor.shape), raw, values))
    wanted = [WantedOutput(output.name, _classes(output)) for output in request.outputs]
    timeout = _parameters(request).get("timeout", 0)
    return Call(request.id, inputs, wanted, timeout if type(timeout) is int and timeout >= 0 else 0)


def _typed_values(tensor: Any) -> list[Any]:
    name = CONTENTS.get(tensor.datatype)
    if name is None:
        raise Fault(f"input '{tensor.name}' of {tensor.datatype} must come in raw_input_contents")
    values: list[Any] = list(getattr(tensor.contents, name))
    if tensor.datatype != "BYTES":
        return values
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError as error:
        raise Fault(f"input '{tensor.name}' is not UTF-8; send it in raw_input_contents") from error


def _classes(output: Any) -> int:
    value = _parameters(output).get("classification", 0)
    if type(value) is not int or value < 0:
        raise Fault(f"invalid value for 'classification' parameter of output '{output.name}', expected a count")
    if "shared_memory_region" in output.parameters:
        raise Fault(
            f"output '{output.name}' is to lie in shared memory, which this server does not map", Status.UNSUPPORTED
        )
    return value


def _parameters(message: Any) -> dict[str, Any]:
    return {
        key: getattr(value, value.WhichOneof("parameter_choice") or "int64_param")
        for key, value in message.parameters.items()
    }


async def _abort(context: Context, fault: Fault) -> None:
    await context.abort(fault.status.grpc, fault.message)


def build_server(library: Library, budget: Budget, largest_message: int, most_calls: int) -> grpc.aio.Server:
    """A gRPC server that is not started yet.

    Args:
        library: the models.
        budget: of bytes in flight.
        largest_message: bytes of a request or an answer.
        most_calls: that are handled at once; more are answered RESOURCE_EXHAUSTED.
    """
    options = [
        ("grpc.max_receive_message_length", largest_message),
        ("grpc.max_send_message_length", largest_message),
        # Two servers on one port would share its clients without a word.
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=most_calls)
    service.add_GRPCInferenceServiceServicer_to_server(GrpcService(library, budget), server)
    return server
