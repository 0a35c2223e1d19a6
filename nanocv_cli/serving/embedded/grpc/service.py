"""The gRPC side: KServe v2's service, with Triton's extensions."""

from typing import Any

from google.protobuf import json_format
from tritonclient.grpc import service_pb2 as pb

from nanocv_cli.serving.embedded import management
from nanocv_cli.serving.embedded.access import Access
from nanocv_cli.serving.embedded.background import SmallestFirstExecutor
from nanocv_cli.serving.embedded.encoding import to_bytes
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.grpc.messages import parameters_of, parse_request
from nanocv_cli.serving.embedded.grpc.open_calls import OpenCall
from nanocv_cli.serving.embedded.inference import complete
from nanocv_cli.serving.embedded.library import Library
from nanocv_cli.serving.embedded.management import counted_models, expect_name, load_override


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
        await self._library.load(request.model_name, load_override(parameters_of(request)))
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
        model = self._library.find(request.model_name, request.model_version)
        asked = await self._executor.run(beside, parse_request, request, beside)
        outputs = await complete(model, asked, call.holding, self._executor)
        response = pb.ModelInferResponse(model_name=model.name, model_version=str(model.version), id=request.id)
        for output in outputs:
            response.outputs.add(name=output.name, datatype=output.datatype, shape=output.array.shape)
            response.raw_output_contents.append(to_bytes(output.array))
        return response

    async def unsupported(self, request: Any) -> Any:
        """What this server has not."""
        raise Fault("this server has no shared memory, tracing or log settings", Status.UNSUPPORTED)
