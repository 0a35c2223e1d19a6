"""HTTP/1.1 as an inference server needs it: whole requests in, whole answers out, everything bounded.

The bytes are parsed by llhttp (`httptools`), the parser of Node.js. A general web framework on top of it would spend
more on each request than a small model does on a picture.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

import httptools

from nanocv_cli.serving.embedded.calls import Budget
from nanocv_cli.serving.embedded.faults import Fault
from nanocv_cli.serving.embedded.http_messages import HttpAnswer, HttpRequest, TooLarge

LARGEST_HEAD = 1 << 16
MOST_PIPELINED = 8


Handler = Callable[[HttpRequest], Awaitable[HttpAnswer]]


@dataclass(frozen=True)
class HttpLimits:
    """What one server lets its clients do.

    Attributes:
        message_bytes: largest body, as sent and uncompressed.
        connections: at once; more are answered 503 and closed.
        idle_seconds: how long a connection may stay without a request.
        sending_seconds: how long a client may take to send one.
    """

    message_bytes: int
    connections: int = 2048
    idle_seconds: float = 75.0
    sending_seconds: float = 30.0


class HttpServer:
    """Listens, and keeps count of its connections.

    Args:
        handler: answers requests; it never raises anything but CancelledError.
        limits: for all clients.
        budget: of bytes in flight, shared with other protocols.
    """

    def __init__(self, handler: Handler, limits: HttpLimits, budget: Budget) -> None:
        self.handler, self.limits, self.budget = handler, limits, budget
        self.connections: set[HttpConnection] = set()
        self.closing = False

    async def listen(self, host: str, port: int) -> int:
        """Starts; returns the port.

        Raises:
            OSError: it cannot be had.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: HttpConnection(self), host, port, backlog=1024)
        self._sweeper = asyncio.create_task(self._sweep())
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self, seconds: float) -> None:
        """Takes no more requests, and waits up to `seconds` for the answers to those it has."""
        self.closing = True
        self._server.close()
        self._sweeper.cancel()
        for connection in list(self.connections):
            connection.end_when_idle()
        deadline = time.monotonic() + seconds
        while self.connections and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.abort()

    async def _sweep(self) -> None:
        """Ends connections that stand still: cheaper than a timer for each request."""
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            for connection in list(self.connections):
                if now > connection.deadline:
                    connection.end("the request did not arrive in time", 408)


class HttpConnection(asyncio.Protocol):
    """One client's connection: requests are answered one after the other, in the order in which they came."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[HttpRequest] = deque()
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._ended = self._last = False
        self.deadline = time.monotonic() + server.limits.idle_seconds

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do what asyncio.Transport promises, without being one.
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections.add(self)
        self._begin()
        if self._server.closing or len(self._server.connections) > self._server.limits.connections:
            self.end("too many connections", 503)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._last = True  # it was answered as plain HTTP; what would follow is another protocol
        except httptools.HttpParserError as error:
            # An error of our own callbacks arrives as the parser's error's cause.
            fault = error.__context__ if isinstance(error.__context__, Fault) else None
            self.end(fault.message if fault else "this is not HTTP", fault.status.http if fault else 400)

    def eof_received(self) -> bool:
        # A client that has said all it wants to say may still wait for its answers.
        self._last = True
        return self._task is not None

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = True
        self._server.connections.discard(self)
        self._writable.set()
        for request in (self._request, *self._waiting):
            self._release(request)
        self._waiting.clear()
        if self._task:
            self._task.cancel()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._begin()
        self.deadline = time.monotonic() + self._server.limits.sending_seconds

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        self._request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value))
        self._request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        request, limit = self._request, self._server.limits.message_bytes
        request.method = self._parser.get_method().decode("latin-1")
        request.keep_alive = self._parser.should_keep_alive()
        length = request.headers.get("content-length", "0")
        size = limit if "transfer-encoding" in request.headers else int(length) if length.isdigit() else limit + 1
        if size > limit:
            raise TooLarge(limit)
        self._server.budget.take(size)
        request.held = size
        if request.headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._received += len(body)
        if self._received > self._server.limits.message_bytes:
            raise TooLarge(self._server.limits.message_bytes)
        self._parts.append(body)

    def on_message_complete(self) -> None:
        self._request.body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self.deadline = float("inf")  # from here on it is our time that passes
        self._waiting.append(self._request)
        self._begin()
        if len(self._waiting) >= MOST_PIPELINED:
            self._transport.pause_reading()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._answer_all())

    # Ours.

    def end(self, message: str, status: int) -> None:
        """Says why, if the client is not owed another answer first, and closes."""
        if not self._ended and self._task is None and status != 408:
            body = b'{"error":"' + message.encode() + b'"}'
            self._transport.write(HttpAnswer(body, status).to_bytes(keep_alive=False))
        self._ended = True
        if self._task is None:
            self._transport.close()

    def end_when_idle(self) -> None:
        """Closes once what was asked is answered."""
        if self._task is None:
            self._ended = True
            self._transport.close()

    def abort(self) -> None:
        """Closes at once."""
        self._transport.abort()

    async def _answer_all(self) -> None:
        while self._waiting:
            request = self._waiting.popleft()
            if len(self._waiting) < MOST_PIPELINED:
                self._transport.resume_reading()
            try:
                answer = await self._server.handler(request)
            finally:
                self._release(request)
            keep_alive = request.keep_alive and not self._server.closing
            if self._transport.is_closing():
                return
            self._transport.write(answer.to_bytes(keep_alive))
            if not keep_alive:
                self._ended = True
                self._waiting.clear()
                break
            # The next answer is not made before the client has taken this one.
            await self._writable.wait()
        self._task = None
        self.deadline = time.monotonic() + self._server.limits.idle_seconds
        if self._ended or self._last:
            self._transport.close()

    def _begin(self) -> None:
        self._request = HttpRequest()
        self._parts: list[bytes] = []
        self._received = self._head = 0

    def _count_head(self, size: int) -> None:
        self._head += size
        if self._head > LARGEST_HEAD:
            raise Fault(f"the request's head is larger than {LARGEST_HEAD:,} bytes")

    def _release(self, request: HttpRequest) -> None:
        self._server.budget.give_back(request.held)
        request.held = 0
