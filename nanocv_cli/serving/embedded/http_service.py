"""The HTTP side: KServe v2's paths, with Triton's extensions."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from nanocv_cli.serving.embedded import documents, http_codec
from nanocv_cli.serving.embedded.calls import Budget, answer
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.library import Library
from nanocv_cli.serving.embedded.metrics import exposition
from nanocv_cli.serving.embedded.model import LoadedModel

MODEL = r"/v2/models/{model:[^/]+}"
VERSION = MODEL + r"/versions/{version:\d+}"
UNSUPPORTED = (
    r"/v2/{kind:systemsharedmemory|cudasharedmemory}/{rest:.*}",
    r"/v2/{kind:trace/setting|logging}",
    MODEL + "/trace/setting",
)
JSON = "application/json"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpService:
    """KServe v2 over HTTP.

    Args:
        library: the models.
        budget: of bytes in flight.
        largest_message: bytes of a request.
        body_seconds: how long a client may take to send one.
    """

    def __init__(self, library: Library, budget: Budget, largest_message: int, body_seconds: float) -> None:
        self._library, self._budget = library, budget
        self._largest, self._body_seconds = largest_message, body_seconds

    def application(self) -> web.Application:
        """The paths of the inference port."""
        app = web.Application(client_max_size=self._largest, middlewares=[_faults_as_answers])
        get, post = app.router.add_get, app.router.add_post
        get("/v2", self._server_metadata)
        get("/v2/health/live", self._live)
        get("/v2/health/ready", self._ready)
        get("/v2/models/stats", self._all_statistics)
        for path in (MODEL, VERSION):
            post(path + "/infer", self._infer)
            get(path, self._model_metadata)
            get(path + "/ready", self._model_ready)
            get(path + "/config", self._model_config)
            get(path + "/stats", self._model_statistics)
        post("/v2/repository/index", self._index)
        post(r"/v2/repository/models/{model:[^/]+}/load", self._load)
        post(r"/v2/repository/models/{model:[^/]+}/unload", self._unload)
        for path in UNSUPPORTED:
            app.router.add_route("*", path, self._unsupported)
        return app

    def metrics_application(self) -> web.Application:
        """The one path of the metrics port."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        return app

    def _found(self, request: web.Request) -> LoadedModel:
        return self._library.find(request.match_info["model"], request.match_info.get("version", ""))

    async def _infer(self, request: web.Request) -> web.Response:
        size = request.content_length
        with self._budget.reserved(self._largest if size is None else size):
            try:
                async with asyncio.timeout(self._body_seconds):
                    body = await request.read()
            except TimeoutError as error:
                raise Fault(f"the request did not arrive within {self._body_seconds:g} seconds") from error
            model = self._found(request)
            call = http_codec.parse_call(body, request.headers.get(http_codec.HEADER_LENGTH), model)
            outputs = await answer(model, call)
        content, header_length = http_codec.render_answer(model, call.request_id, outputs)
        if header_length is None:
            return web.Response(body=content, content_type=JSON)
        headers = {http_codec.HEADER_LENGTH: str(header_length), "Content-Type": "application/octet-stream"}
        return web.Response(body=content, headers=headers)

    async def _unsupported(self, request: web.Request) -> web.Response:
        raise Fault("this server has no shared memory, tracing or log settings", Status.UNSUPPORTED)

    async def _server_metadata(self, request: web.Request) -> web.Response:
        return web.json_response(documents.server_metadata())

    async def _live(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _ready(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self._library.ready else 400)

    async def _model_metadata(self, request: web.Request) -> web.Response:
        model = self._found(request)
        return web.json_response(documents.model_metadata(model, self._library.versions(model.name)))

    async def _model_ready(self, request: web.Request) -> web.Response:
        try:
            self._found(request)
        except Fault:
            return web.json_response({"error": "Model version not ready"}, status=400)
        return web.Response()

    async def _model_config(self, request: web.Request) -> web.Response:
        return web.json_response(documents.message(self._found(request).config))

    async def _model_statistics(self, request: web.Request) -> web.Response:
        name, version = request.match_info["model"], request.match_info.get("version", "")
        return web.json_response(documents.statistics(counted_models(self._library, name, version)))

    async def _all_statistics(self, request: web.Request) -> web.Response:
        return web.json_response(documents.statistics(self._library.loaded()))

    async def _index(self, request: web.Request) -> web.Response:
        wanted = http_codec.parse_object(await request.read())
        return web.json_response(documents.repository_index(self._library, wanted.get("ready") is True))

    async def _load(self, request: web.Request) -> web.Response:
        parameters = http_codec.parse_object(await request.read()).get("parameters", {})
        if not isinstance(parameters, dict):
            raise Fault("Unable to parse 'parameters': expected an object")
        await self._library.load(request.match_info["model"], load_override(parameters))
        return web.Response()

    async def _unload(self, request: web.Request) -> web.Response:
        await self._library.unload(request.match_info["model"])
        return web.Response()

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=exposition(self._library), headers={"Content-Type": "text/plain; charset=utf-8"})


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


@web.middleware
async def _faults_as_answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Fault as fault:
        return web.json_response({"error": fault.message}, status=fault.status.http)
    except web.HTTPException as error:
        return web.json_response({"error": error.reason}, status=error.status)
    except (ConnectionError, asyncio.IncompleteReadError):
        raise
    except Exception as error:
        # A defect of ours must not tell a client more than that there is one, nor end the server.
        request.app.logger.exception("a request failed in the server")
        return web.json_response({"error": f"internal: {type(error).__name__}"}, status=Status.INTERNAL.http)
