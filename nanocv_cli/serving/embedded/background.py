"""Work that would hold up the event loop, in threads beside it."""

import asyncio
import contextlib
import heapq
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, TypeVar

SMALL = 1 << 16  # bytes that are worked on at once, in the event loop

Result = TypeVar("Result")


class SmallestFirstExecutor:
    """One thread for long work on requests, and the line before it.

    More threads would be no faster, for all need the interpreter, and what texts become while they are read (up to
    forty times their size) would stand in memory as often. The smallest goes first: large texts delay large ones only.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "requests")
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


class StillRunningError(Exception):
    """The work takes longer than anybody waits for it."""

    def __init__(self, thread: threading.Thread) -> None:
        super().__init__(thread.name)
        self.thread = thread


async def in_daemon_thread(work: Callable[[], Result], seconds: float, too_late: Callable[[Result], object]) -> Result:
    """Runs `work` in a thread of its own: the loop's pool could fill up with work that hangs, and waits for it at exit.

    Args:
        work: whatever it raises is raised here.
        seconds: to wait for it.
        too_late: called in the event loop with a result that comes after that.

    Raises:
        StillRunningError: it has not ended.
    """
    loop = asyncio.get_running_loop()
    arrives: asyncio.Future[Result] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if arrives.done():
            if error is None:
                too_late(result)
        elif error is None:
            arrives.set_result(result)
        else:
            arrives.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as caught:
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(settle, result, error)

    thread = threading.Thread(target=run, name="loading", daemon=True)
    thread.start()
    try:
        await asyncio.wait([arrives], timeout=seconds)
        if not arrives.done():
            raise StillRunningError(thread)
        return arrives.result()
    finally:
        arrives.cancel()
