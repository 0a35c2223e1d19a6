"""Work on a request that would hold up the event loop: in one thread beside it, the smallest first."""

import asyncio
import heapq
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, TypeVar

SMALL = 1 << 16  # bytes that are worked on at once, in the event loop

Result = TypeVar("Result")


class Aside:
    """One thread, and the line before it.

    More threads would be no faster, for all need the interpreter, and what texts become while they are read (up to
    forty times their size) would stand in memory as often. The smallest goes first: large texts delay large ones only.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "aside")
        self._line: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = count()
        self._busy = False

    async def run(self, size: int, work: Callable[..., Result], *arguments: Any) -> Result:
        """What `work` returns or raises; at once where `size`, the bytes it works on, is small."""
        if size <= SMALL:
            return work(*arguments)
        if self._busy:
            turn = asyncio.get_running_loop().create_future()
            heapq.heappush(self._line, (size, next(self._numbers), turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._next()
                raise
        self._busy = True
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        finally:
            self._next()

    def _next(self) -> None:
        while self._line:
            turn = heapq.heappop(self._line)[2]
            if not turn.done():
                turn.set_result(None)
                return
        self._busy = False
