"""The HTTP side: KServe v2's paths, with Triton's extensions."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from nanocv_cli.serving.embedded import management
from nanocv_cli.serving.embedded.access import Access
from nanocv_cli.serving.embedded.background import SmallestFirstExecutor
from nanocv_cli.serving.embedded.encoding import ENCODE, parse_object
from nanocv_cli.serving.embedded.faults import DEFECTS, Fault, Status, TooLarge
from nanocv_cli.serving.embedded.guard import ANY, CONTROL, INFER, LOOK, METRICS, OPEN, Guard, Roles
from nanocv_cli.serving.embedded.http.image_door import PostprocessorFor
from nanocv_cli.serving.embedded.http.inferring import Inferring
from nanocv_cli.serving.embedded.http.messages import HttpAnswer, HttpRequest, refused, uncompressed
from nanocv_cli.serving.embedded.http.page import OF_BROWSERS, timed
from nanocv_cli.serving.embedded.image_reading import ImageReader
from nanocv_cli.serving.embedded.library import Library
from nanocv_cli.serving.embedded.limits import Limits
from nanocv_cli.serving.embedded.management import counted_models, expect_name, exposition, load_override
from nanocv_cli.serving.embedded.server_log import ServerLog

UNSUPPORTED = ("systemsharedmemory", "cudasharedmemory", "trace", "logging")
DEEPEST_PATH = 8  # parts of the longest path there is
MOST_KNOWN, SHORT_PATH = 512, 256  # paths, and bytes of one, that are looked up once

# A path's answer, from the model and version it names (empty where it names none) and the request's body.
Action = Callable[[str, str, HttpRequest], Awaitable[HttpAnswer]]


class Endpoint(NamedTuple):
    """What is at a path: the method it takes, what answers, and the roles that open it (None: no key is needed)."""

    method: str
    action: Action
    roles: Roles


Route = tuple[Endpoint, str, str]  # and the model and version that a path names


class HttpService:
    """KServe v2 over HTTP.

    Args:
        library: the models.
        access: who may change them.
        limits: of requests.
        executor: where long work on them is done.
        guard: whose key lets them in.
        log: of which the metrics tell, too.
        reader: decodes images.
        postprocessor_for: see `ImageDoor`.
        page: static answers by path; see `page.page_answers`.
    """

    def __init__(
        self,
        library: Library,
        access: Access,
        limits: Limits,
        executor: SmallestFirstExecutor,
        guard: Guard,
        log: ServerLog,
        reader: ImageReader,
        postprocessor_for: PostprocessorFor,
        page: Mapping[bytes, HttpAnswer],
    ) -> None:
        self._guard, self._log = guard, log
        self._library, self._access, self._limits, self._executor = library, access, limits, executor
        self._inferring = Inferring(limits, executor, reader, postprocessor_for)
        self._page = page
        # It holds no secret, and is where a key can be given.
        self._known: dict[bytes, Route] = dict.fromkeys(page, (Endpoint("GET", self._of_page, OPEN), "", ""))
        self._plain: dict[tuple[str, ...], Endpoint] = {
            (): Endpoint("GET", self._server_metadata, LOOK),
            # Who starts and stops servers asks these, and holds no secrets; a status is all that they tell.
            ("health", "live"): Endpoint("GET", self._live, OPEN),
            ("health", "ready"): Endpoint("GET", self._ready, OPEN),
            ("models", "stats"): Endpoint("GET", self._statistics, LOOK),
            ("repository", "index"): Endpoint("POST", self._index, LOOK),
        }
        self._of_models: dict[str, Endpoint] = {
            "": Endpoint("GET", self._model_metadata, LOOK),
            "infer": Endpoint("POST", self._infer, INFER),
            "ready": Endpoint("GET", self._model_ready, LOOK),
            "config": Endpoint("GET", self._model_config, LOOK),
            "stats": Endpoint("GET", self._statistics, LOOK),
        }
        self._of_repository: dict[str, Endpoint] = {
            "load": Endpoint("POST", self._load, CONTROL),
            "unload": Endpoint("POST", self._unload, CONTROL),
        }

    def gate(self, request: HttpRequest) -> None:
        """Lets a request to the inference port in by its head, before its body is taken; see `Guard.check`.

        Raises:
            Fault: its key does not let it in. Where it only asks too often, its refusal is that instead: it stays
                connected.
        """
        if self._guard.has_keys:
            self._let_in(request, self._roles(request))

    def gate_metrics(self, request: HttpRequest) -> None:
        """The same at the metrics port."""
        self._let_in(request, METRICS)

    async def answer(self, request: HttpRequest) -> HttpAnswer:
        """Answers any request to the inference port; one for a head alone as one for the whole, which is then cut."""
        try:
            endpoint, model, version = self._route(request.target)
            request.exchange.asks(model, version)
            if not _takes(endpoint, request):
                return _wrong_method(endpoint.method)
            answer = await endpoint.action(model, version, request)
            return timed(answer, request.exchange) if OF_BROWSERS in request.headers else answer
        except Fault as fault:
            return refused(fault)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # A defect of ours must not tell a client more than that there is one, nor end the server.
            return refused(DEFECTS.answer(error))

    async def answer_metrics(self, request: HttpRequest) -> HttpAnswer:
        """Answers any request to the metrics port."""
        if request.target.partition(b"?")[0] != b"/metrics":
            return refused(Fault("Not Found", Status.NOT_FOUND))
        if request.method not in ("GET", "HEAD"):
            return _wrong_method("GET")
        try:
            return HttpAnswer(exposition(self._library, self._log.dropped), content_type="text/plain; charset=utf-8")
        except Exception as error:  # as above
            return refused(DEFECTS.answer(error))

    def _let_in(self, request: HttpRequest, roles: Roles) -> None:
        name = request.exchange.key = self._guard.check(request.headers.get("authorization"), roles)
        try:
            self._guard.count(name)
        except Fault as fault:
            request.refusal = refused(fault)

    def _roles(self, request: HttpRequest) -> Roles:
        """What opens that which a request asks for; where there is no such thing, only who has a key is told so."""
        try:
            endpoint = self._route(request.target)[0]
        except Fault:
            return ANY
        return endpoint.roles if _takes(endpoint, request) else ANY

    def _route(self, target: bytes) -> Route:
        """What is at a path, and the model and version it names.

        Raises:
            Fault: there is no such path.
        """
        if (known := self._known.get(target)) is not None:
            return known
        found = self._looked_up(parts_of(target))
        if len(target) <= SHORT_PATH and len(self._known) < MOST_KNOWN:
            self._known[target] = found
        return found

    def _looked_up(self, parts: tuple[str, ...]) -> Route:
        if parts[:1] == ("v2",):
            match parts[1:]:
                case plain if plain in self._plain:
                    return self._plain[plain], "", ""
                case ("models", name, "versions", version, *rest) if version.isascii() and version.isdigit():
                    found = self._of_models.get("/".join(rest))
                    if found:
                        return found, name, version
                case ("models", name, *rest) if found := self._of_models.get("/".join(rest)):
                    return found, name, ""
                case ("repository", "models", name, verb) if verb in self._of_repository:
                    return self._of_repository[verb], name, ""
                case (first, *_) if first in UNSUPPORTED:
                    raise Fault("this server has no shared memory, tracing or log settings", Status.UNSUPPORTED)
        raise Fault("Not Found", Status.NOT_FOUND)

    async def _infer(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        return await self._inferring.answer(self._library.find(name, version), request)

    async def _of_page(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        return self._page[request.target]

    async def _server_metadata(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        return _json(management.server_metadata())

    async def _live(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        return HttpAnswer()

    async def _ready(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        return HttpAnswer(status=200 if self._library.ready else 400)

    async def _model_metadata(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        model = self._library.find(name, version)
        return _json(management.model_metadata(model, self._library.versions(name)))

    async def _model_ready(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        if not self._library.answers(name, version):
            return refused(Fault("Model version not ready"))
        return HttpAnswer()

    async def _model_config(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        return _json(management.message(self._library.find(name, version).config))

    async def _statistics(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        return _json(management.statistics(counted_models(self._library, name, version)))

    async def _index(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        wanted = await self._object(request)
        return _json(management.repository_index(self._library, wanted.get("ready") is True))

    async def _load(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        self._access.check_control(request.headers)
        expect_name(name)
        parameters = (await self._object(request)).get("parameters", {})
        if not isinstance(parameters, dict):
            raise Fault("Unable to parse 'parameters': expected an object")
        await self._library.load(name, load_override(parameters))
        return HttpAnswer()

    async def _unload(self, name: str, version: str, request: HttpRequest) -> HttpAnswer:
        self._access.check_control(request.headers)
        expect_name(name)
        await self._library.unload(name)
        return HttpAnswer()

    async def _object(self, request: HttpRequest) -> dict[str, Any]:
        """The request's body as a JSON object, empty for an empty body."""
        body = await uncompressed(request, self._limits.text_bytes, self._executor)
        if len(body) > self._limits.text_bytes:
            raise TooLarge(self._limits.text_bytes)
        text = bytes(body).strip()
        return await self._executor.run(len(text), parse_object, text) if text else {}


def parts_of(target: bytes) -> tuple[str, ...]:
    """The parts of a path, percent-decoded.

    Raises:
        Fault: it is no path, or holds what no name does.
    """
    path = target.partition(b"?")[0].removesuffix(b"/")
    if not path.startswith(b"/") or path.count(b"/") > DEEPEST_PATH:
        raise Fault("Not Found", Status.NOT_FOUND)
    try:
        parts = tuple(unquote_to_bytes(part).decode() for part in path.split(b"/")[1:])
    except UnicodeDecodeError as error:
        raise Fault("the path is not UTF-8") from error
    if not all(part.isprintable() for part in parts):
        raise Fault("the path holds characters that no name does")
    return parts


def _takes(endpoint: Endpoint, request: HttpRequest) -> bool:
    return request.method == endpoint.method or (request.method, endpoint.method) == ("HEAD", "GET")


def _wrong_method(method: str) -> HttpAnswer:
    allowed = "GET, HEAD" if method == "GET" else method
    return refused(Fault("Method Not Allowed", Status.NO_METHOD), ("Allow", allowed))


def _json(document: Any) -> HttpAnswer:
    return HttpAnswer(ENCODE(document).encode())
