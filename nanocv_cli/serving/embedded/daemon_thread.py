"""Work that nobody has to wait for: it runs in a thread that does not keep the process from ending."""

import asyncio
import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


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


def exit_in_spite_of_threads(code: int) -> None:
    """Lets the process end with this exit status though a thread still runs a graph.

    The interpreter would end such a thread in the midst of foreign code, which aborts the process, or wait for it.
    """

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    atexit.register(leave)
