"""How fast all who take part go, so that server and clients together take a given share of one processor."""

import threading
import time

import psutil

SLOWEST, FASTEST = 50.0, 0.02


class Pace:
    """A factor that all pauses are multiplied by.

    Args:
        share: of one processor, for the server and this process together; 0: as fast as they can.
        server: its process id.
    """

    def __init__(self, share: float, server: int) -> None:
        self._share, self._over = share, threading.Event()
        self._processes = [psutil.Process(), psutil.Process(server)]
        self.factor = 1.0 if share else FASTEST
        self._seen = (time.monotonic(), self._processor_seconds())

    @property
    def is_over(self) -> bool:
        """Whether the soak has ended."""
        return self._over.is_set()

    def end(self) -> None:
        """Ends the soak."""
        self._over.set()

    def wait(self, seconds: float) -> bool:
        """Pauses for so long at a pace of 1; whether the soak has ended."""
        return self._over.wait(seconds * self.factor)

    def rest(self, seconds: float) -> bool:
        """Pauses for so long at any pace; whether the soak has ended."""
        return self._over.wait(seconds)

    def adjust(self) -> float:
        """Goes faster or slower, by what was used since the last call; returns that share."""
        now = (time.monotonic(), self._processor_seconds())
        used = (now[1] - self._seen[1]) / max(1e-3, now[0] - self._seen[0])
        self._seen = now
        if self._share:
            step = min(2.0, max(0.5, used / self._share)) ** 0.5
            self.factor = min(SLOWEST, max(FASTEST, self.factor * step))
        return used

    def _processor_seconds(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self._processes)
