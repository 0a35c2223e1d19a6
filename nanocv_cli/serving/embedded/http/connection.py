"""One client's connection: where it stands, until when, and its reading half: no faster than others can live with."""

from __future__ import annotations

import asyncio
import time
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, cast

from nanocv_cli.serving.embedded.budget import SLOW_SECONDS, Holding
from nanocv_cli.serving.embedded.faults import DEFECTS, Fault, Status
from nanocv_cli.serving.embedded.http.answering import AnswerQueue
from nanocv_cli.serving.embedded.http.messages import HttpRequest, refused
from nanocv_cli.serving.embedded.http.presence import Presence
from nanocv_cli.serving.embedded.http.reader import RequestReader

if TYPE_CHECKING:
    from nanocv_cli.serving.embedded.http.server import HttpServer

MOST_PIPELINED = 8
AHEAD = 1 << 16  # bytes of bodies that are taken in while the request before them is answered
FAREWELL_SECONDS = 2.0  # for a client that is refused to stop sending: closed sooner, it would not see why
NEVER = float("inf")


class Stage(IntEnum):
    """Where a connection stands."""

    ENDING = 0
    SILENT = 1  # it has never asked
    IDLE = 2
    HEAD = 3  # it sends a head
    BODY = 4  # it sends a body
    TAKING = 5  # it takes an answer, more slowly than that is made
    WORKING = 6  # it waits for us


class HttpConnection(asyncio.Protocol):
    """One client's connection: requests are answered one after the other, in the order in which they came.

    Args:
        server: whose it is.

    Attributes:
        stage: where it stands.
        since: from when on, by `time.monotonic`.
        deadline: when it must have moved on, by `time.monotonic`.
        presence: whether the client is there.
    """

    def __init__(self, server: HttpServer) -> None:
        self.stage, self.since, self.deadline = Stage.SILENT, time.monotonic(), NEVER
        self._server = server
        self._reader = RequestReader(server.budget, server.limits.message_bytes, self._check, self._queue)
        self._unparsed = b""
        self._answers = AnswerQueue(server.handler, self, server.tell)
        self._paused = self._refused = False
        self._last = False  # the client has said that nothing will follow
        self._deaf = False  # whatever follows is not read

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do what asyncio.Transport promises, without being one.
        self._transport = cast(asyncio.Transport, transport)
        self.presence = Presence(self._transport)
        self._answers.connect(self._transport)
        if self._server.admit(self):
            self._stand(Stage.SILENT, self._server.limits.idle_seconds)
        else:
            self._deaf = True
            refusal = refused(Fault("too many connections", Status.UNAVAILABLE))
            self._transport.write(refusal.head(keep_alive=False) + refusal.body)
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if not self._deaf:
            self._unparsed = self._unparsed + data if self._unparsed else data
            self._parse()

    def eof_received(self) -> bool:
        # A client that has said all it wants to say may still wait for its answers.
        self._last = True
        return self._answers.is_busy or bool(self._unparsed)

    def pause_writing(self) -> None:
        self._answers.pause()

    def resume_writing(self) -> None:
        self._answers.resume()

    def connection_lost(self, error: Exception | None) -> None:
        self._deaf = True
        self._server.leave(self)
        self._answers.cancel()
        self._reader.forget()
        self._answers.forget()

    # What the server calls.

    @property
    def is_slow(self) -> bool:
        """Whether it sends, or takes, more slowly than others need bear when there are too many of them."""
        if self.stage == Stage.HEAD:
            return time.monotonic() - self._reader.begun > SLOW_SECONDS
        return self._moving.is_slow

    @property
    def _moving(self) -> Holding:
        """What the client waits for, takes, or sends."""
        busy = self._answers.answered if self.stage in (Stage.WORKING, Stage.TAKING) else None
        return (busy or self._reader.request).holding

    @property
    def losable(self) -> int:
        """Bytes of its request, unless a model works on it."""
        return self._moving.losable

    @property
    def is_greedy(self) -> bool:
        """Whether it has asked for more before it was answered."""
        return len(self._answers.waiting) > 1

    def look(self) -> None:
        """Ends what took too long, and what nobody waits for; called several times a second."""
        if time.monotonic() > self.deadline:
            self._expire()
        elif self._last and (request := self._answers.unanswered):
            self.presence.ask(request)

    def _expire(self) -> None:
        if self.stage == Stage.BODY and (more := self._reader.seconds_left(self._server.limits)) > 0:
            self._stand(Stage.BODY, more)
        elif self.stage in (Stage.HEAD, Stage.BODY):
            self._lose()
        elif self.stage in (Stage.SILENT, Stage.IDLE):
            self._close()
        else:
            self.abort()

    def end_when_idle(self) -> None:
        """Closes once what was asked is answered."""
        if not self._answers.is_busy:
            self._close()

    def abort(self) -> None:
        """Closes at once."""
        self._transport.abort()

    # Reading.

    def _parse(self) -> None:
        """Parses what is here as far as may be. What is left stays, and nothing more is read meanwhile."""
        reader = self._reader
        before = reader.received
        try:
            self._unparsed = reader.parse(self._unparsed, self._may_go_on)
        except Fault as fault:
            self._refuse(fault)
        except Exception as error:
            self._refuse(DEFECTS.answer(error))
        self._deaf = self._deaf or reader.over
        if self._deaf:
            self._pause(False)
            return
        if reader.in_body:
            self._receive(reader.received - before)
        self._pause(bool(self._unparsed) or not self._may_go_on())
        if self._answers.is_busy:
            return
        if self._unparsed:
            asyncio.get_running_loop().call_soon(self.parse_on)  # it is the others' turn
        self._wait_for_client()

    def _receive(self, size: int) -> None:
        """Some of a body came, perhaps none, but not all."""
        holding = self._reader.request.holding
        if holding.moving:
            holding.moved(size)
        else:
            holding.move(self._lose)

    def _go_on(self) -> None:
        """All is answered. A client that had to wait for that begins to be judged anew."""
        reader = self._reader
        if reader.begun:
            reader.begun = time.monotonic()
        if reader.in_body:
            reader.request.holding.move(self._lose)
        if self._paused:
            self._parse()
        else:
            self._wait_for_client()

    def _may_go_on(self) -> bool:
        if self._deaf or not self._answers.is_busy:
            return not self._deaf
        waiting = self._answers.waiting
        ahead = self._reader.received + sum(request.holding.size for request in waiting)
        return len(waiting) < MOST_PIPELINED and ahead <= AHEAD

    def _pause(self, paused: bool) -> None:
        if paused != self._paused:
            self._paused = paused
            (self._transport.pause_reading if paused else self._transport.resume_reading)()

    def _wait_for_client(self) -> None:
        """Nothing is left to do here: the client has to do something, and in time."""
        limits, reader = self._server.limits, self._reader
        if self._last and not self._unparsed:
            self._close()
        elif reader.in_body:
            if self.stage != Stage.BODY:
                self._stand(Stage.BODY, reader.seconds_left(limits))
        elif reader.begun:
            self._stand(Stage.HEAD, reader.begun + limits.head_seconds - time.monotonic())
        elif self.stage != Stage.SILENT:
            self._stand(Stage.IDLE, limits.idle_seconds)

    def _check(self, request: HttpRequest) -> None:
        """Looks at a head: whether this client may ask, and waits to hear so."""
        self._server.access.check(request.method, request.headers, self._local_address)
        self._server.gate(request)
        if not self._answers.is_busy:  # else it would take this for the beginning of that answer
            self.presence.invite(request.headers)

    def _queue(self, request: HttpRequest) -> None:
        request.holding.rest(partial(self._drop, request))
        self._answers.add(request)

    def _drop(self, request: HttpRequest) -> None:
        """A request that is whole has lost its bytes."""
        self._answers.refuse(request, refused(self._server.budget.no_room()))

    def _local_address(self) -> str:
        return str(self._transport.get_extra_info("sockname")[0])

    def _lose(self) -> None:
        self._refuse(Fault("the request came too slowly", Status.TOO_SLOW))

    def _refuse(self, fault: Fault) -> None:
        """Says why in its turn, after the answers to what came before, and reads nothing more."""
        if self._deaf:
            return
        self._deaf = self._refused = True
        self._unparsed, request = b"", self._reader.request
        self._reader.forget()
        request.keep_alive, request.refusal = False, refused(fault)
        self._queue(request)
        self._pause(False)

    # What the answering half calls.

    @property
    def has_unparsed(self) -> bool:
        return bool(self._unparsed)

    def keeps_alive(self, waiting: bool) -> bool:
        return not self._server.closing and (waiting or not self._deaf)

    def work(self) -> None:
        self._stand(Stage.WORKING, NEVER)

    def wait_for_taking(self) -> None:
        self._stand(Stage.TAKING, self._server.limits.taking_seconds)

    def parse_on(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._parse()

    def all_answered(self) -> None:
        if self._deaf:
            self._close()
        else:
            self._go_on()

    def stop_reading(self) -> None:
        self._deaf, self._unparsed = True, b""

    # Ending.

    def _close(self) -> None:
        """Closes when all is written; a client that was refused may finish what it was saying, to nobody."""
        if self._refused and not self._last and self._transport.can_write_eof():  # TLS says farewell by itself
            self._transport.write_eof()
            self._stand(Stage.ENDING, FAREWELL_SECONDS)
        else:
            self._transport.close()
            self._stand(Stage.ENDING, self._server.limits.taking_seconds)

    def _stand(self, stage: Stage, seconds: float) -> None:
        now = time.monotonic()
        self.deadline = now + seconds
        if stage != self.stage:
            self._server.move(self, stage)
            self.stage, self.since = stage, now
