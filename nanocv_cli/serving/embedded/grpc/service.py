"""The gRPC side: KServe v2's service, with Triton's extensions; its messages are decoded within bounds."""

from typing import Any

from google.protobuf import json_format
from tritonclient.grpc import service_pb2 as pb

from nanocv_cli.engine.signature import to_bytes
from nanocv_cli.serving.embedded import management
from nanocv_cli.serving.embedded.access import Access
from nanocv_cli.serving.embedded.asking import Asked, InferRequest, checked
from nanocv_cli.serving.embedded.background import SmallestFirstExecutor
from nanocv_cli.serving.embedded.encoded import answer_files
from nanocv_cli.serving.embedded.faults import Fault, Status, TooLarge
from nanocv_cli.serving.embedded.grpc.codec import (
    beside_tensors,
    decoded,
    parameters_of,
    parse_request,
    text_before_tensor,
)
from nanocv_cli.serving.embedded.grpc.open_calls import OpenCall
from nanocv_cli.serving.embedded.image_reading import ImageReader
from nanocv_cli.serving.embedded.inference import InferOutput, answered
from nanocv_cli.serving.embedded.library import Library
from nanocv_cli.serving.embedded.management import counted_models, expect_name, load_override
from nanocv_cli.serving.embedded.model import LoadedModel
from nanocv_cli.serving.embedded.outlines import MOST_KNOWN

MOST_ALIKE = 8  # texts that are kept of messages of one size


class GrpcService:
    """KServe v2 over gRPC: a method for each of the protocol's, which takes a message and returns one.

    Args:
        library: the models.
        access: who may change them.
        executor: where long work on requests is done.
        reader: decodes images.
    """

    def __init__(self, library: Library, access: Access, executor: SmallestFirstExecutor, reader: ImageReader) -> None:
        self._library, self._access, self._executor, self._reader = library, access, executor, reader
        # By the size of a whole message: the texts of such, and the model and version that each names.
        self._texts: dict[int, list[tuple[bytes, str, str]]] = {}

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

    async def infer(self, content: bytes, limit: int, call: OpenCall) -> Any:
        """An inference, asked for by either method.

        Args:
            content: the request's message.
            limit: bytes of it that may be no raw tensors.
            call: whose it is.

        Raises:
            Fault: it fails.
        """
        if (repeated := self._repeated(content, call)) is not None:
            model, asked = repeated
        else:
            model, request, message = await self._read(content, limit, call)
            if model.takes_files:
                outputs = await answer_files(model, request, call.holding, self._executor, call.exchange, self._reader)
                return _response(model, request.request_id, outputs)
            asked = await self._checked(model, request, message, content)
        outputs = await answered(model, asked, call.holding, self._executor, call.exchange)
        return _response(model, asked.request_id, outputs)

    def _repeated(self, content: bytes, call: OpenCall) -> tuple[LoadedModel, Asked] | None:
        """Model and request of a message that says what one said before, but for its numbers; see `outlines`."""
        for text, name, version in self._texts.get(len(content), ()):
            if content.startswith(text):
                call.exchange.asks(name, version)
                model = self._library.find(name, version)
                outline = model.outlines.find(text, len(content) - len(text))
                return None if outline is None else (model, outline.filled(content, len(text)))
        return None

    def _keep(self, text: bytes, message: Any, content: bytes) -> None:
        """Keeps which model a message asked, and by what text."""
        texts = self._texts.get(len(content))
        if texts is None:
            if len(self._texts) >= MOST_KNOWN:
                self._texts.clear()
            texts = self._texts[len(content)] = []
        named = text, message.model_name, message.model_version
        if named not in texts:
            if len(texts) >= MOST_ALIKE:
                texts.clear()
            texts.append(named)

    async def _read(self, content: bytes, limit: int, call: OpenCall) -> tuple[LoadedModel, InferRequest, Any]:
        """The model that is asked, the request, and its message."""
        beside = beside_tensors(content)
        if beside > limit:
            raise TooLarge(limit, "what the request holds beside raw_input_contents")
        message = await self._executor.run(beside, decoded, pb.ModelInferRequest, content)
        call.exchange.asks(message.model_name, message.model_version)
        model = self._library.find(message.model_name, message.model_version)
        return model, await self._executor.run(beside, parse_request, message, beside), message

    async def _checked(self, model: LoadedModel, request: InferRequest, message: Any, content: bytes) -> Asked:
        asked = await self._executor.run(request.worked_on, checked, model, request)
        if len(request.inputs) == 1 and not request.request_id and (text := text_before_tensor(content)):
            self._keep(text, message, content)
            model.outlines.keep(text, request, asked)
        return asked

    async def unsupported(self, request: Any) -> Any:
        """What this server has not."""
        raise Fault("this server has no shared memory, tracing or log settings", Status.UNSUPPORTED)


def _response(model: LoadedModel, request_id: str, outputs: list[InferOutput]) -> Any:
    response = pb.ModelInferResponse(model_name=model.name, model_version=str(model.version), id=request_id)
    for output in outputs:
        response.outputs.add(name=output.name, datatype=output.datatype, shape=output.array.shape)
        response.raw_output_contents.append(to_bytes(output.array))
    return response
