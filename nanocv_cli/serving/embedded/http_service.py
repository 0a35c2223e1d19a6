"""The HTTP side: KServe v2's paths, with Triton's extensions."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from nanocv_cli.serving.embedded import documents, http_codec
from nanocv_cli.serving.embedded.calls import answer
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.http_messages import HttpAnswer, HttpRequest, uncompressed
from nanocv_cli.serving.embedded.library import Library
from nanocv_cli.serving.embedded.metrics import exposition
from nanocv_cli.serving.embedded.model import LoadedModel

UNSUPPORTED = ("systemsharedmemory", "cudasharedmemory", "trace", "logging")
LOG = logging.getLogger(__name__)

# A path's answer, from the model and version it names (empty where it names none) and the request's body.
Action = Callable[[str, str, HttpRequest], Awaitable[HttpAnswer]]


class HttpService:
    """KServe v2 over HTTP.

    Args:
        library: the models.
        largest_message: bytes of an uncompressed request.
    """

    def __init__(self, library: Library, largest_message: int) -> None:
        self._library, self._largest = library, largest_message
        self._plain: dict[tuple[str, ...], tuple[str, Action]] = {
            (): ("GET", self._server_metadata),
            ("health", "live"): ("GET", self._live),
            ("health", "ready"): ("GET", self._ready),
            ("models", "stats"): ("GET", self._statistics),
            ("repository", "index"): ("POST", self._index),
        }
        self._of_models: dict[str, tuple[str, Action]] = {
            "": ("GET", self._model_metadata),
            "infer": ("POST", self._infer),
            "ready": ("GET", self._model_ready),
            "config": ("GET", self._model_config),
            "stats": ("GET", self._statistics),
        }
        self._of_repository: dict[str, tuple[str, Action]] = {
            "load": ("POST", self._load),
            "unload": ("POST", self._unload),
        }

    async def answer(self, request: HttpRequest) -> HttpAnswer:
        """Answers any request to the inference port."""
        try:
            method, action, model, version = self._route(request.target)
            if request.method != method:
                return _refusal("Method Not Allowed", 405)
            return await action(model, version, request)
        except Fault as fault:
            return _refusal(fault.message, fault.status.http)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # A defect of ours must not tell a client more than that there is one, nor end the server.
            LOG.exception("a request failed in the server")
            return _refusal(f"internal: {type(error).__name__}", Status.INTERNAL.http)

    async def answer_metrics(self, request: HttpRequest) -> HttpAnswer:
        """Answers any request to the metrics port."""
        if request.target.partition(b"?")[0] != b"/metrics":
            return _refusal("Not Found", 404)
        return HttpAnswer(exposition(self._library), content_type="text/plain; charset=utf-8")

    def _route(self, target: bytes) -> tuple[str, Action, str, str]:
        """Method, action, model and version of a path.

        Raises:
            Fault: there is no such path.
        """
        path = target.partition(b"?")[0].decode("latin-1")
        parts = tuple(unquote(part) for part in path.removesuffix("/").split("/")[1:])
        if parts[:1] == ("v2",):
            match parts[1:]:
                case plain if plain in self._plain:
                    return (*self._plain[plain], "", "")
                case ("models", name, "versions", version, *rest) if version.isascii() and version.isdigit():
                    found = self._of_models.get("/".join(rest))
                    if found:
                        return (*found, name, version)
                case ("models", name, *rest) if found := self._of_models.get("/".join(rest)):
                    return (*found, name, "")
                case ("repository", "models", name, verb) if verb in self._of_repository:
                    return (*self._of_repository[verb], name, "")
                case (first, *_) if first in UNSUPPORTED:
                    raise Fault("this server has no shared memory, tracing or log settings", Status.UNSUPPORTED)
        raise Fault("Not Found", Status.NOT_FOUND)

    async def _infer(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        model = self._library.find(name, version)
        body = uncompressed(request, self._largest)
        call = http_codec.parse_call(body, request.headers.get(http_codec.HEADER_LENGTH), model)
        outputs = await answer(model, call)
        content, header_length = http_codec.render_answer(model, call.request_id, outputs)
        if header_length is None:
            return HttpAnswer(content)
        headers = (("Inference-Header-Content-Length", str(header_length)),)
        return HttpAnswer(content, content_type="application/octet-stream", headers=headers)

    async def _server_metadata(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        return _json(documents.server_metadata())

    async def _live(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        return HttpAnswer()

    async def _ready(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        return HttpAnswer(status=200 if self._library.ready else 400)

    async def _model_metadata(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        model = self._library.find(name, version)
        return _json(documents.model_metadata(model, self._library.versions(name)))

    async def _model_ready(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        return HttpAnswer() if self._library.answers(name, version) else _refusal("Model version not ready", 400)

    async def _model_config(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        return _json(documents.message(self._library.find(name, version).config))

    async def _statistics(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        return _json(documents.statistics(counted_models(self._library, name, version)))

    async def _index(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        wanted = http_codec.parse_object(uncompressed(request, self._largest))
        return _json(documents.repository_index(self._library, wanted.get("ready") is True))

    async def _load(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        parameters = http_codec.parse_object(uncompressed(request, self._largest)).get("parameters", {})
        if not isinstance(parameters, dict):
            raise Fault("Unable to parse 'parameters': expected an object")
        await self._library.load(name, load_override(parameters))
        return HttpAnswer()

    async def _unload(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        await self._library.unload(name)
        return HttpAnswer()


def load_override(parameters: dict[str, Any]) -> str:
    """The model config among a load request's parameters, empty for none.

    Raises:
        Fault: there is a parameter that this server does not honour.
    """
    for key, value in parameters.items():
        if key != "config" or not isinstance(value, str):
            raise Fault(f"load parameter '{key}' is not supported; 'config' takes JSON text", Status.UNSUPPORTED)
    return str(parameters.get("config", ""))


def counted_models(library: Library, name: str, version: str) -> list[LoadedModel]:
    """The models whose statistics are asked for: all versions where none is named.

    Raises:
        Fault: there is none.
    """
    if not name:
        return library.loaded()
    versions = [version] if version else library.versions(name)
    if not versions:
        raise Fault(f"requested model '{name}' is not available")
    return [library.find(name, number) for number in versions]


def _json(document: Any) -> HttpAnswer:
    return HttpAnswer(json.dumps(document, separators=(",", ":")).encode())


def _refusal(message: str, status: int) -> HttpAnswer:
    return HttpAnswer(json.dumps({"error": message}).encode(), status)
