"""How much memory all threads together may decode images in."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """An amount of memory that threads take parts of, waiting until there is enough.

    Args:
        total: bytes.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._changed = threading.Condition()
        self._own = threading.local()

    @contextmanager
    def reserved(self, amount: int) -> Iterator[None]:
        """Holds `amount` bytes; more than there are in all is all of them, so that the largest has them alone.

        Raises:
            RuntimeError: this thread holds a part already, and might wait for itself.
        """
        if getattr(self._own, "holds", False):
            raise RuntimeError("a thread reserves memory once at a time")
        amount = min(amount, self.total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        self._own.holds = True
        try:
            yield
        finally:
            self._own.holds = False
            with self._changed:
                self._free += amount
                self._changed.notify_all()
