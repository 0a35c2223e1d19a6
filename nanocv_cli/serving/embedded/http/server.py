"""HTTP/1.1 as an inference server needs it: whole requests in, whole answers out, everything bounded.

The bytes are parsed by llhttp (`httptools`), the parser of Node.js. uvicorn on the same parser and loop is as fast, but
it bounds neither the bytes in flight nor a slow client's time, and never asks who should give way.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice

from nanocv_cli.serving.embedded.access import Access
from nanocv_cli.serving.embedded.background import SMALL
from nanocv_cli.serving.embedded.budget import Budget
from nanocv_cli.serving.embedded.certificates import Certificates
from nanocv_cli.serving.embedded.exchange import Tell
from nanocv_cli.serving.embedded.http.answering import Handler
from nanocv_cli.serving.embedded.http.connection import HttpConnection, Stage
from nanocv_cli.serving.embedded.http.handshake import Handshake
from nanocv_cli.serving.embedded.http.messages import HttpRequest
from nanocv_cli.serving.embedded.limits import Limits

SWEEP_SECONDS = 0.25
OLD_SECONDS, YOUNG_SECONDS = 1.0, 0.1  # without a word
LOOKED_AT = 16  # connections of a kind, for each that gives way


class HttpServer:
    """Listens, and keeps count of its connections.

    Args:
        handler: answers requests; it never raises anything but CancelledError.
        access: who may ask at all.
        limits: for all clients.
        budget: of bytes in flight, shared with other protocols.
        gate: looks at a request's head, and raises Fault where its key does not let it in.
        tell: told of each exchange that has ended, if it is to be.
        certificates: by which connections are secured; None: they are not.
    """

    def __init__(
        self,
        handler: Handler,
        access: Access,
        limits: Limits,
        budget: Budget,
        gate: Callable[[HttpRequest], None],
        tell: Tell | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self.handler, self.access, self.limits, self.budget = handler, access, limits, budget
        self.gate, self.tell = gate, tell
        self._certificates = certificates
        self._handshakes: dict[Handshake, None] = {}  # in the order in which they began
        self.connections: set[HttpConnection] = set()
        # By stage, in the order in which they came to it.
        self._standing: list[dict[HttpConnection, None]] = [{} for _ in Stage]
        self.closing = False

    async def listen(self, host: str, port: int) -> int:
        """Starts; returns the port.

        Raises:
            OSError: it cannot be had.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._meet, host, port, backlog=1024)
        self._sweeper = asyncio.create_task(self._sweep())
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self, seconds: float) -> None:
        """Takes no more requests, and waits up to `seconds` for the answers to those it has."""
        self.closing = True
        self._server.close()
        self._sweeper.cancel()
        for handshake in list(self._handshakes):
            handshake.abort()
        for connection in list(self.connections):
            connection.end_when_idle()
        deadline = time.monotonic() + seconds
        while self.connections and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.abort()

    def admit(self, connection: HttpConnection) -> bool:
        """Takes a connection in, in another one's place if it must; whether there is one."""
        if self.closing or (self._is_full and not self._one_gives_way()):
            return False
        self.connections.add(connection)
        self._standing[connection.stage][connection] = None
        return True

    def begin(self, handshake: Handshake) -> bool:
        """Takes in one that is not secured yet, in the place of the oldest such if it must; whether there is one."""
        if self.closing:
            return False
        if self._is_full:
            oldest = next(iter(self._handshakes), None)
            if oldest is not None:
                self.end(oldest)
                oldest.abort()
            elif not self._one_gives_way():
                return False
        self._handshakes[handshake] = None
        return True

    def end(self, handshake: Handshake) -> None:
        """It is secured, or will never be."""
        self._handshakes.pop(handshake, None)

    def move(self, connection: HttpConnection, stage: Stage) -> None:
        """Keeps account of where a connection stands."""
        if connection in self.connections:
            self._standing[connection.stage].pop(connection, None)
            self._standing[stage][connection] = None

    def leave(self, connection: HttpConnection) -> None:
        """Forgets a connection."""
        self.connections.discard(connection)
        self._standing[connection.stage].pop(connection, None)

    @property
    def _is_full(self) -> bool:
        return len(self.connections) + len(self._handshakes) >= self.limits.connections

    def _meet(self) -> asyncio.Protocol:
        """Whatever a client that connects meets."""
        return Handshake(self, self._certificates.context) if self._certificates else HttpConnection(self)

    def _one_gives_way(self) -> bool:
        """Ends the connection that is the least loss; whether there is one."""
        now = time.monotonic()
        ending, silent, idle, *sending, working = (list(islice(standing, LOOKED_AT)) for standing in self._standing)
        # What a client has sent may be here, and not be read yet.
        still = [one for one in chain(silent, idle, *sending) if one.presence.is_silent]
        still.sort(key=lambda one: one.since)
        for connection in chain(
            ending,
            (one for one in still if one.stage == Stage.SILENT and now - one.since > OLD_SECONDS),
            (one for one in chain(*sending) if one.is_slow),
            (one for one in still if one.stage == Stage.IDLE and now - one.since > OLD_SECONDS),
            (one for one in still if now - one.since > YOUNG_SECONDS),
            self._largest_first(),
            (one for one in working if one.is_greedy),
            sorted(chain(silent, idle, *sending), key=lambda one: one.since),
        ):
            self.leave(connection)
            connection.abort()
            return True
        return False

    def _largest_first(self) -> Iterator[HttpConnection]:
        """Those whose requests are large; all are looked at, but only if it comes to that."""
        large = [one for one in chain(*self._standing[Stage.HEAD :]) if one.losable > SMALL]
        yield from sorted(large, key=lambda one: -one.losable)

    async def _sweep(self) -> None:
        """Ends connections that stand still: cheaper than a timer for each request."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for connection in list(self.connections):
                connection.look()
