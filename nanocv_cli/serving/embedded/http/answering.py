"""The answering half of a connection: its requests are answered in their turn, no faster than the client takes them."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from nanocv_cli.serving.embedded.exchange import REQUEST_ID, TRACE_PARENT, Tell
from nanocv_cli.serving.embedded.faults import DEFECTS
from nanocv_cli.serving.embedded.http.messages import HttpAnswer, HttpRequest

PART = 1 << 18  # bytes of an answer that are written at once
GONE = 499  # in the log alone, of what was not answered: its client had gone, or the answer before was the last
LONGEST_PATH = 500  # bytes of one in the log

Handler = Callable[[HttpRequest], Awaitable[HttpAnswer]]


class ReadingHalf(Protocol):
    """What the answering half asks of the other one."""

    @property
    def has_unparsed(self) -> bool:
        """Whether bytes are here that were not parsed yet."""

    def keeps_alive(self, waiting: bool) -> bool:
        """Whether the client may go on asking; `waiting`: more that it asked waits for its answer."""

    def work(self) -> None:
        """From now on the client waits for us."""

    def wait_for_taking(self) -> None:
        """From now on the client has to take what was written."""

    def parse_on(self) -> None:
        """A request is answered: more may be read."""

    def all_answered(self) -> None:
        """Nothing waits for an answer any more."""

    def stop_reading(self) -> None:
        """The client has been told that this was the last answer."""

    def abort(self) -> None:
        """Closes at once."""


class AnswerQueue:
    """One connection's whole requests, answered one after the other in the order in which they came.

    Args:
        handler: makes an answer.
        reading: the other half of the connection.
        tell: told of each exchange that has ended; None: nobody is.

    Attributes:
        waiting: requests whose turn has not come.
        answered: the one that is worked on.
        unanswered: likewise, until the first byte of its answer is written.
    """

    def __init__(self, handler: Handler, reading: ReadingHalf, tell: Tell | None) -> None:
        self._handler, self._reading, self._tell = handler, reading, tell
        self.waiting: deque[HttpRequest] = deque()
        self.answered: HttpRequest | None = None
        self.unanswered: HttpRequest | None = None
        self._task: asyncio.Task[None] | None = None

    def connect(self, transport: asyncio.Transport) -> None:
        """Answers are written there."""
        self._transport, self._writer = transport, AnswerWriter(transport, self._wait_for_taking)

    @property
    def is_busy(self) -> bool:
        """Whether something waits for its answer, or is answered."""
        return self._task is not None

    def add(self, request: HttpRequest) -> None:
        """Answers a request in its turn."""
        self.waiting.append(request)
        if self._task is None:
            self._reading.work()
            self._task = asyncio.get_running_loop().create_task(self._answer_all())

    def refuse(self, request: HttpRequest, refusal: HttpAnswer) -> None:
        """Answers a request, be it worked on already, with a refusal."""
        if request not in self.waiting and self._task:
            self._task.cancel()
        request.body, request.refusal = b"", refusal

    def cancel(self) -> None:
        """The client is gone."""
        if self._task:
            self._task.cancel()

    def forget(self) -> None:
        """Drops what waits: its turn will not come."""
        for request in self.waiting:
            request.holding.release()
            if self._tell:
                _begin(request)
                self._tell_of(self._tell, request, len(request.body), GONE, 0)
        self.waiting.clear()

    def pause(self) -> None:
        """The client is behind with taking."""
        self._writer.pause()

    def resume(self) -> None:
        """The client has taken most of what was written."""
        self._writer.resume()

    async def _answer_all(self) -> None:
        try:
            while self.waiting:
                request = self.waiting.popleft()
                try:
                    await self._answer(request)
                finally:
                    request.holding.release()
                    self.answered = None
                if self.waiting or self._reading.has_unparsed:
                    await asyncio.sleep(0)  # it is the others' turn
                self._reading.parse_on()
            self._task = None
            self._reading.all_answered()
        except Exception as error:
            # A defect of ours must not leave a client without an answer for ever.
            DEFECTS.answer(error)
            self._reading.abort()

    async def _answer(self, request: HttpRequest) -> None:
        _begin(request)
        size, status, self._writer.written = len(request.body), GONE, 0
        try:
            answer = await self._made(request)
            keep_alive = request.keep_alive and self._reading.keeps_alive(bool(self.waiting))
            if not self._transport.is_closing():
                await self._writer.send(request, answer, keep_alive)
                status = answer.status
        finally:
            if self._tell:
                self._tell_of(self._tell, request, size, status, self._writer.written)
        if not keep_alive:
            self._reading.stop_reading()
            self.forget()

    async def _made(self, request: HttpRequest) -> HttpAnswer:
        answer = request.refusal
        if answer is None:
            self.answered = self.unanswered = request
            try:
                answer = await self._handler(request)
            except asyncio.CancelledError:
                if not request.refusal:
                    raise
                answer = request.refusal
                if self._task:
                    self._task.uncancel()
            finally:
                self.unanswered = None
        return answer

    def _tell_of(self, tell: Tell, request: HttpRequest, size: int, status: int, sent: int) -> None:
        exchange = request.exchange
        exchange.protocol, exchange.method, exchange.bytes_in = "http", request.method, size
        exchange.path = request.target.partition(b"?")[0][:LONGEST_PATH].decode("latin-1")
        host, port, *_ = self._transport.get_extra_info("peername") or ("", 0)
        exchange.client = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        exchange.end(status, sent)
        tell(exchange)

    def _wait_for_taking(self, waits: bool) -> None:
        if waits:
            self._reading.wait_for_taking()
        else:
            self._reading.work()


def _begin(request: HttpRequest) -> None:
    request.exchange.begin(request.headers.get(REQUEST_ID), request.headers.get(TRACE_PARENT))


class AnswerWriter:
    """Writes one connection's answers.

    Args:
        transport: of the connection.
        waits: told whether it is the client that is waited for, to take what was written.

    Attributes:
        written: bytes of the present answer's body that the system has, or the transport with room for more.
    """

    def __init__(self, transport: asyncio.Transport, waits: Callable[[bool], None]) -> None:
        self._transport, self._waits, self.written = transport, waits, 0
        self._writable = asyncio.Event()
        self._writable.set()

    def pause(self) -> None:
        """The client is behind."""
        self._writable.clear()

    def resume(self) -> None:
        """The client has taken most of what was written."""
        self._writable.set()

    async def send(self, request: HttpRequest, answer: HttpAnswer, keep_alive: bool) -> None:
        """Writes an answer, and waits until the client has taken most of it."""
        head = answer.head(keep_alive, request.exchange.told)
        body = b"" if request.method == "HEAD" else answer.body
        at_once = len(body) <= PART
        self._transport.write(head + body if at_once else head)
        if at_once and self._writable.is_set():
            self.written = len(body)
            return
        request.holding.move(self._transport.abort)
        await self._taken()
        if at_once:
            self.written = len(body)
            return
        for place in range(0, len(body), PART):
            part = memoryview(body)[place : place + PART]
            self._transport.write(part)
            await self._taken()
            self.written += len(part)
            request.holding.moved(PART)

    async def _taken(self) -> None:
        if self._writable.is_set():
            await asyncio.sleep(0)
            return
        self._waits(True)
        await self._writable.wait()
        self._waits(False)
