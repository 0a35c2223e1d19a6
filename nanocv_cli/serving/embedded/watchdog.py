"""What must end in time: one thread, the watchdog, tells work to stop when its time is up.

ONNX Runtime looks between two operators, and at each turn of a loop, whether it shall stop; OpenVINO between two
operators. A thread that runs a graph cannot look at the clock itself.
"""

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

TICK_SECONDS = 0.25
# What was told to stop and has not after so long is taken for lost: no operator of a small model runs that long.
GRACE_SECONDS = 5.0
LOG = logging.getLogger(__name__)


def nothing() -> None:
    """Does nothing."""


class Turn:
    """One piece of work that must end in time; a context that lasts as long as the work.

    Attributes:
        stopped: whether it was told to stop.
    """

    __slots__ = ("_deadline", "_lock", "_lost", "_stop", "_told", "_watchdog", "stopped")

    def __init__(self, watchdog: "Watchdog", deadline: float, stop: Callable[[], None], lost: Callable[[], None]):
        self._watchdog, self._deadline, self._stop, self._lost = watchdog, deadline, stop, lost
        self._told = 0.0
        # What ends a run may be the same for the next one: nothing is told to stop once the work is done.
        self._lock = threading.Lock()
        self.stopped = False

    def __enter__(self) -> Self:
        self._watchdog.turns.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._watchdog.turns.discard(self)

    def look(self, now: float, ending: bool) -> None:
        """Tells the work to stop if its time is up, and gives it up if that has not helped."""
        with self._lock:
            if self not in self._watchdog.turns or not (self.stopped or ending or now >= self._deadline):
                return
            if not self.stopped:
                self.stopped, self._told = True, now
            if now < self._told + GRACE_SECONDS:
                self._stop()
                return
        lost, self._lost = self._lost, nothing
        lost()


class Watchdog:
    """A thread that looks several times a second at all work that must end in time; it lives as long as the server.

    Attributes:
        turns: the work under way. Threads add and take away, each in one step of the interpreter.
        ending: all work is to stop, whatever time it has left.
    """

    def __init__(self) -> None:
        self.turns: set[Turn] = set()
        self.ending = False
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def watch(self, deadline: float, stop: Callable[[], None], lost: Callable[[], None] = nothing) -> Turn:
        """Work that must end.

        Args:
            deadline: of `time.monotonic`.
            stop: called from the watchdog's thread when the deadline is past, and again while the work goes on.
            lost: called once when that has not helped.
        """
        return Turn(self, deadline, stop, lost)

    def close(self) -> None:
        """Ends the thread."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(TICK_SECONDS):
            now = time.monotonic()
            for turn in self.turns.copy():
                try:
                    turn.look(now, self.ending)
                except Exception as error:  # whatever it is, the others have to be looked after
                    LOG.error("work could not be stopped: %s", type(error).__name__)
