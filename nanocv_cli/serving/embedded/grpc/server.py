"""Listens for gRPC, and runs the service with the bytes of its messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message_factory import GetMessageClass
from tritonclient.grpc import service_pb2 as pb

from nanocv_cli.serving.embedded.access import Access
from nanocv_cli.serving.embedded.background import SmallestFirstExecutor
from nanocv_cli.serving.embedded.budget import Budget
from nanocv_cli.serving.embedded.certificates import Certificates
from nanocv_cli.serving.embedded.exchange import Exchange, Tell
from nanocv_cli.serving.embedded.faults import DEFECTS, Fault, Status, TooLarge
from nanocv_cli.serving.embedded.grpc.codec import asked_model, decoded, named
from nanocv_cli.serving.embedded.grpc.contexts import Messages, begun, make_sure_of_client, written
from nanocv_cli.serving.embedded.grpc.open_calls import OpenCall, OpenCalls, Phase
from nanocv_cli.serving.embedded.grpc.service import GrpcService
from nanocv_cli.serving.embedded.guard import ANY, CONTROL, INFER, LOOK, OPEN, Guard, Roles
from nanocv_cli.serving.embedded.image_reading import ImageReader
from nanocv_cli.serving.embedded.inflating import inflated, is_deflated
from nanocv_cli.serving.embedded.library import Library
from nanocv_cli.serving.embedded.limits import Limits
from nanocv_cli.serving.ports import address

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
# What opens a method; those that are not named here are opened by `control`.
ROLES: dict[str, Roles] = {
    "ServerLive": OPEN,
    "ServerReady": OPEN,
    "ServerMetadata": LOOK,
    "ModelReady": LOOK,
    "ModelMetadata": LOOK,
    "ModelConfig": LOOK,
    "ModelStatistics": LOOK,
    "RepositoryIndex": LOOK,
    "ModelInfer": INFER,
    "ModelStreamInfer": INFER,
}
STREAMS_OF_A_CONNECTION = 128
MOST_READ = 1 << 20  # bytes of a connection, at once; gRPC would read up to 4 MiB of each
MOST_PENDING = 10_000  # calls that gRPC has not told us of yet; of those beyond it cancels any, honest ones too
# When it stops, gRPC cancels the calls that it has not told us of yet. So it is stopped when those that are worked on
# are answered, or take long, and their clients' next calls have come: those are refused, with words that tell why.
ANSWERS_SECONDS, LAST_CALLS_SECONDS = 1.0, 0.1
if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]


class AllMethods(grpc.GenericRpcHandler):
    """What answers a call, whatever its method is called: gRPC itself would refuse those it does not know, to anybody.

    Args:
        known: by the name of a method of the service.
        unknown: for all others.
    """

    def __init__(self, known: dict[str, Handler], unknown: Handler) -> None:
        self._known = {f"/{SERVICE.full_name}/{name}": handler for name, handler in known.items()}
        self._unknown = unknown

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        return self._known.get(handler_call_details.method, self._unknown)


class GrpcServer:
    """Listens, and runs the service's methods with the bytes of their messages.

    They are all told to gRPC as methods that read their messages by themselves, also those of which there is one: so
    this server knows of a call before its message is there, and can end it.

    Args:
        library: the models.
        access: who may change them.
        limits: for all clients.
        budget: of bytes in flight.
        executor: where long work on requests is done.
        guard: whose key lets calls in.
        tell: told of each exchange that has ended; None: nobody is.
        reader: decodes images.
        certificates: by which connections are secured; None: they are not.
    """

    def __init__(
        self,
        library: Library,
        access: Access,
        limits: Limits,
        budget: Budget,
        executor: SmallestFirstExecutor,
        guard: Guard,
        tell: Tell | None,
        reader: ImageReader,
        certificates: Certificates | None = None,
    ) -> None:
        self._guard, self._tell, self._certificates = guard, tell, certificates
        self._limits, self._executor = limits, executor
        self._service = GrpcService(library, access, executor, reader)
        self._calls = OpenCalls(budget, limits)
        self._messages = Messages()
        self._server = grpc.aio.server(options=_options(limits))
        self._server.add_generic_rpc_handlers((AllMethods(dict(map(self._handler, SERVICE.methods)), self._unknown()),))

    async def listen(self, host: str, port: int) -> int:
        """Starts; returns the port.

        Raises:
            OSError: it cannot be had.
        """
        try:
            if self._certificates is None:
                found = self._server.add_insecure_port(address(host, port))
            else:
                found = self._server.add_secure_port(address(host, port), self._certificates.grpc_credentials())
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address(host, port)}") from error
        await self._server.start()
        self._sweeper = asyncio.create_task(self._calls.sweep())
        return int(found)

    async def close(self, seconds: float) -> None:
        """Takes no more calls, and waits up to `seconds` for the answers to those it has."""
        latest = time.monotonic() + seconds
        self._calls.close()
        await self._calls.answered(min(seconds, ANSWERS_SECONDS))
        await asyncio.sleep(LAST_CALLS_SECONDS)
        await self._server.stop(max(0.0, latest - time.monotonic()))
        self._sweeper.cancel()

    def _handler(self, method: Any) -> tuple[str, Handler]:
        roles = ROLES.get(method.name, CONTROL)
        if method.client_streaming:
            run = partial(self._run, method.name, self._stream, Phase.BETWEEN, roles)
            return method.name, grpc.stream_stream_rpc_method_handler(plain(run))
        kind, own = GetMessageClass(method.input_type), getattr(self._service, method.name, self._service.unsupported)
        if method.name == "ModelInfer":
            reply, limit = partial(self._infer), self._limits.message_bytes
        else:
            reply, limit = partial(self._ask, kind, own), self._limits.text_bytes
        run = partial(self._run, method.name, partial(self._unary, reply, limit), Phase.SENDING, roles)
        return method.name, grpc.stream_unary_rpc_method_handler(plain(run))

    def _unknown(self) -> Handler:
        async def refuse(call: OpenCall) -> None:
            self._guard.count(call.exchange.key)
            raise Fault("there is no such method", Status.NO_METHOD)

        return grpc.stream_unary_rpc_method_handler(plain(partial(self._run, "", refuse, Phase.WORKING, ANY)))

    async def _unary(self, reply: Callable[[bytes, OpenCall], Awaitable[Any]], limit: int, call: OpenCall) -> bytes:
        self._guard.count(call.exchange.key)
        content = await self._messages.read(call.context)
        if not isinstance(content, bytes):
            await make_sure_of_client(call.context)  # what gRPC itself refused, as too large, mostly ends so too
            raise Fault("there is no message")
        call.exchange.bytes_in = len(content)
        content = await self._inflated(content, limit, call)
        call.stand(Phase.WORKING)
        answer: bytes = (await reply(content, call)).SerializeToString()
        call.take()
        return answer

    async def _stream(self, call: OpenCall) -> None:
        first = call.exchange
        self._guard.count(first.key)  # at once: a message may never come
        while isinstance(content := await self._messages.read(call.context), bytes):
            call.exchange.began = time.monotonic_ns()  # until now its client was silent
            self._let_in(call.context, INFER)  # its key may have been taken away meanwhile
            call.exchange.bytes_in, status = len(content), grpc.StatusCode.OK
            try:
                if call.exchange is not first:  # which was counted
                    self._guard.count(call.exchange.key)
                content = await self._inflated(content, self._limits.message_bytes, call)
                call.stand(Phase.WORKING)
                reply = pb.ModelStreamInferResponse(infer_response=await self._infer(content, call))
            except Fault as fault:
                status = fault.status.grpc
                reply = pb.ModelStreamInferResponse(error_message=fault.message, infer_response=named(content))
            call.take()
            answer = reply.SerializeToString()
            await written(call.context, answer)
            self._end(call.context, call.exchange, status, len(answer))
            call.expect_next()

    async def _run(
        self,
        method: str,
        work: Callable[[OpenCall], Awaitable[Any]],
        phase: Phase,
        roles: Roles,
        _: Any,
        context: Context,
    ) -> Any:
        """Runs a call's work; whatever goes wrong with it becomes its status."""
        call: OpenCall | None = None
        exchange = begun(context, method)
        try:
            exchange.key = self._let_in(context, roles)
            call = self._calls.enter(context, phase, exchange)
            answer = await work(call)
            if answer is not None:  # of a stream each message has been told of
                self._end(context, exchange, grpc.StatusCode.OK, len(answer))
            return answer
        # No error is kept: it would hold its frames, they the request's bytes, and this frame the error.
        except Fault as fault:
            status, message = fault.status, fault.message
        except asyncio.CancelledError:
            if call is None or call.lost is None:
                if call is None or call.phase is not Phase.BETWEEN:  # else nothing was asked that is unanswered
                    self._end(context, call.exchange if call else exchange, grpc.StatusCode.CANCELLED, 0)
                raise
            status, message = call.lost.status, call.lost.message
        except Exception as error:
            status, message = Status.INTERNAL, DEFECTS.answer(error).message
        self._end(context, call.exchange if call else exchange, status.grpc, 0)
        await make_sure_of_client(context)
        return await context.abort(status.grpc, message)

    def _let_in(self, context: Context, roles: Roles) -> str:
        """The name of the key that a call comes with; see `Guard.check`."""
        if not self._guard.has_keys:
            return ""
        given = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
        return self._guard.check(str(given[0]) if len(given) == 1 else None, roles)

    def _end(self, context: Context, exchange: Exchange, status: grpc.StatusCode, size: int) -> None:
        """An exchange has ended, with an answer of so many bytes."""
        if self._tell:
            exchange.end(status.name, size)
            self._tell(exchange)

    async def _infer(self, content: bytes, call: OpenCall) -> Any:
        return await self._service.infer(content, self._limits.text_bytes, call)

    async def _ask(self, kind: Any, method: Callable[[Any], Awaitable[Any]], content: bytes, call: OpenCall) -> Any:
        request = await self._executor.run(len(content), decoded, kind, content)
        call.exchange.asks(*asked_model(request))
        return await method(request)

    async def _inflated(self, content: bytes, limit: int, call: OpenCall) -> bytes:
        """A message as it was before its client compressed it; its bytes count from now on."""
        if len(content) > limit:
            raise TooLarge(limit)
        call.holding.add(len(content))
        if not is_deflated(content):
            return content
        call.stand(Phase.SENDING)  # a message is not here before it is inflated
        return bytes(await inflated(content, limit, call.holding, self._executor, "the compressed message"))


def plain(run: Callable[[Any, Context], Awaitable[Any]]) -> Callable[[Any, Context], Awaitable[Any]]:
    """The same as a coroutine function: gRPC asks at each call what kind of one it is, and takes a partial apart."""

    async def answer(requests: Any, context: Context) -> Any:
        return await run(requests, context)

    return answer


def _options(limits: Limits) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", limits.message_bytes),
        # It would inflate messages of all clients at once, and count none of their bytes.
        ("grpc.per_message_decompression", 0),
        # What is read of a connection at once is allocated before it is parsed.
        ("grpc.experimental.tcp_max_read_buffer_size", MOST_READ),
        # Two servers on one port would share its clients without a word.
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", STREAMS_OF_A_CONNECTION),
        ("grpc.server.max_pending_requests", MOST_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", 2 * MOST_PENDING),
        ("grpc.max_allowed_incoming_connections", limits.grpc_connections),
        ("grpc.server_handshake_timeout_ms", int(1000 * limits.head_seconds)),
        ("grpc.max_connection_idle_ms", int(1000 * limits.grpc_idle_seconds)),
        # A client whose machine is gone does not say so.
        ("grpc.keepalive_time_ms", int(1000 * limits.grpc_idle_seconds)),
        ("grpc.keepalive_timeout_ms", int(1000 * limits.taking_seconds)),
    ]
