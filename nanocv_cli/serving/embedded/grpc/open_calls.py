"""The gRPC calls that are open, and which of them give way.

gRPC hands over whole messages: how much of one has come is known to it alone. So a client is judged by time. A message
that is not whole after half a second is slow, and only as many slow ones may be on their way as the budget has room
for: beyond that the connection with the most of them loses its oldest. So it is with streams whose client is silent.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, Any

import grpc

from nanocv_cli.serving.embedded.budget import SLOW_SECONDS, Budget
from nanocv_cli.serving.embedded.exchange import Exchange
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.limits import Limits

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]

YOUNG_SECONDS = 0.5
SWEEP_SECONDS = 0.1
CLOSED = "the server is shutting down"


class Phase(Enum):
    """Whom a call waits for."""

    SENDING = "its client, for a message"
    BETWEEN = "its client, for the next message of a stream"
    WORKING = "us"
    TAKING = "its client, to take the answer"


class OpenCall:
    """One call, in the task that gRPC runs it in.

    Args:
        context: gRPC's side of it.
        budget: of bytes in flight.
        phase: the first.
        exchange: what its client and the log are told of it; of a stream, of its present message.

    Attributes:
        peer: the connection it came by.
        holding: the bytes it holds, until its answer is with the client; of a stream, those of its present message.
        phase: whom it waits for.
        since: from when on, by `time.monotonic`.
        lost: why it was made to end, if it was.
    """

    def __init__(self, context: Context, budget: Budget, phase: Phase, exchange: Exchange) -> None:
        self.exchange, self._budget = exchange, budget
        self.context, self.peer, self.holding = context, context.peer(), budget.holding()
        self.phase, self.since = phase, time.monotonic()
        self.lost: Fault | None = None
        task = asyncio.current_task()
        assert task is not None
        self.task: asyncio.Task[Any] = task
        self.holding.rest(self._lose_bytes)

    def stand(self, phase: Phase) -> None:
        """From now on it waits for another."""
        self.phase, self.since = phase, time.monotonic()

    def take(self) -> None:
        """From now on its client has to take the answer."""
        self.stand(Phase.TAKING)
        self.holding.move(self._lose_bytes)

    def expect_next(self) -> None:
        """The answer to a stream's message is with its client: from now on it waits for the next one."""
        self.holding.release()
        # How fast that answer was taken says nothing of the next message.
        self.holding = self._budget.holding()
        self.holding.rest(self._lose_bytes)
        self.exchange = self.exchange.next()
        self.stand(Phase.BETWEEN)

    def _lose_bytes(self) -> None:
        self.lose(Fault("the requests in flight hold too many bytes", Status.UNAVAILABLE))

    def lose(self, why: Fault) -> None:
        """Ends it."""
        if self.lost is None:
            self.lost = why
            self.task.cancel()


class OpenCalls:
    """All calls that are open, of all connections.

    Args:
        budget: of bytes in flight.
        limits: of calls.
    """

    def __init__(self, budget: Budget, limits: Limits) -> None:
        self._budget, self._limits = budget, limits
        self._calls: dict[asyncio.Task[Any], OpenCall] = {}
        self._closed = False
        self._most_slow = max(1, limits.flight_bytes // limits.message_bytes)

    def enter(self, context: Context, phase: Phase, exchange: Exchange) -> OpenCall:
        """Takes the present task's call in, in others' place if it must; it leaves when the task ends.

        Raises:
            Fault: none gives way, or the server is closing.
        """
        if self._closed:
            raise Fault(CLOSED, Status.UNAVAILABLE)
        if len(self._calls) >= self._limits.calls:
            self._make_place(context.peer())
        call = OpenCall(context, self._budget, phase, exchange)
        self._calls[call.task] = call
        call.task.add_done_callback(lambda task: self._leave(call))
        return call

    async def sweep(self) -> None:
        """Ends what stands still; runs until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            old = [call for call in self._calls.values() if now - call.since > YOUNG_SECONDS]
            for call in old:
                if call.phase in (Phase.SENDING, Phase.TAKING) and now - call.since > self._limits.grpc_seconds:
                    self._lose(call, "the client was too slow")
            slow = "the client was slow, and others too many"
            self._thin([call for call in old if call.phase is Phase.SENDING], self._most_slow, slow)
            self._thin([call for call in old if call.phase is Phase.BETWEEN], self._limits.streams, slow)

    def close(self) -> None:
        """Takes no more in, and ends all that nobody works on: the server is closing."""
        self._closed = True
        for call in [call for call in self._calls.values() if call.phase in (Phase.SENDING, Phase.BETWEEN)]:
            self._lose(call, CLOSED)

    async def answered(self, seconds: float) -> None:
        """Waits up to so many seconds for all that are open to end."""
        if self._calls:
            await asyncio.wait([*self._calls], timeout=seconds)

    def _make_place(self, peer: str) -> None:
        """Ends a call in favour of a new one, unless that comes by the connection that has the most already."""
        now, waiting = time.monotonic(), [call for call in self._calls.values() if call.phase is not Phase.WORKING]
        numbers = Counter([peer, *(call.peer for call in waiting)])
        # Whoever takes an answer is through in no time, if he is honest; but those give way who hold more places.
        idle = [
            call
            for call in waiting
            if call.phase is not Phase.TAKING or now - call.since > SLOW_SECONDS or numbers[call.peer] > numbers[peer]
        ]
        if not idle or numbers[peer] == max(numbers.values()) > 1:
            raise Fault("too many calls at once", Status.TOO_LARGE)
        first = min(idle, key=lambda call: (-numbers[call.peer], call.since))
        self._lose(first, "others wanted to be served")

    def _thin(self, calls: list[OpenCall], most: int, why: str) -> None:
        """Ends calls until `most` are left: the oldest of those connections that have the most."""
        if len(calls) > most:
            numbers = Counter(call.peer for call in calls)
            for call in sorted(calls, key=lambda call: (-numbers[call.peer], call.since))[: len(calls) - most]:
                self._lose(call, why)

    def _lose(self, call: OpenCall, why: str) -> None:
        self._calls.pop(call.task, None)
        call.lose(Fault(why, Status.UNAVAILABLE))

    def _leave(self, call: OpenCall) -> None:
        self._calls.pop(call.task, None)
        call.holding.release()
