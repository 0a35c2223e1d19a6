"""Answers become a connection's bytes, no faster than the client takes them."""

import asyncio
from collections.abc import Callable

from nanocv_cli.serving.embedded.http.messages import HttpAnswer, HttpRequest

PART = 1 << 18  # bytes of an answer that are written at once


class AnswerWriter:
    """Writes one connection's answers.

    Args:
        transport: of the connection.
        waits: told whether it is the client that is waited for, to take what was written.
    """

    def __init__(self, transport: asyncio.Transport, waits: Callable[[bool], None]) -> None:
        self._transport, self._waits = transport, waits
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
        head = answer.head(keep_alive)
        body = b"" if request.method == "HEAD" else answer.body
        at_once = len(body) <= PART
        self._transport.write(head + body if at_once else head)
        if at_once and self._writable.is_set():
            return
        request.holding.move(self._transport.abort)
        await self._taken()
        for place in range(0, 0 if at_once else len(body), PART):
            self._transport.write(memoryview(body)[place : place + PART])
            await self._taken()
            request.holding.moved(PART)

    async def _taken(self) -> None:
        if self._writable.is_set():
            await asyncio.sleep(0)
            return
        self._waits(True)
        await self._writable.wait()
        self._waits(False)
