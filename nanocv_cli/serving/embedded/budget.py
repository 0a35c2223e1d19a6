"""The bytes that requests and answers may hold in the server at once, and who loses them when there are too many.

Bytes count once they are here, whatever a client has announced. While there is room nobody is judged. When there is
none, those lose their bytes first who move them too slowly for their number: a client that has stopped in the middle is
one of them after less than a second, one that sends a byte now and then is no faster, and a slow line comes last.
After them the largest lose, as long as they hold more than whoever needs the room. So nobody is refused who holds less
than his equal share, whatever the others do. Requests that a model works on are not taken from it.
"""

import math
import time
from collections.abc import Callable

from nanocv_cli.serving.embedded.faults import Fault, Status

PACE_SECONDS = 0.5  # over which a pace is measured
SLOW_SECONDS = 2.0  # who would need longer, at his pace, for the bytes he holds is slow


class Budget:
    """Bounds the bytes of all requests and answers; it belongs to the event loop's thread.

    Args:
        limit: bytes.

    Attributes:
        held: bytes at present.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.held = limit, 0
        self.losable: set[Holding] = set()

    def holding(self) -> "Holding":
        """A new account, of nothing yet."""
        return Holding(self)

    def no_room(self) -> Fault:
        """What is said to those who lose."""
        message = f"the requests in flight hold {self.held:,} of at most {self.limit:,} bytes"
        return Fault(message, Status.UNAVAILABLE, "REJECTED")

    def make_room(self, wanting: "Holding", size: int) -> None:
        """Has others lose their bytes, down to a little below the limit: looking for them takes a while.

        Args:
            wanting: for whom.
            size: how many bytes more it is to hold.

        Raises:
            Fault: they do not hold enough.
        """
        now, enough = time.monotonic(), self.limit - self.limit // 16 - size
        ranked = sorted(
            ((max(SLOW_SECONDS, holding.seconds(now)), holding.size, holding) for holding in self.losable),
            key=lambda one: (-one[0], -one[1]),
        )
        for seconds, held, holding in ranked:
            if self.held <= enough:
                break
            if holding is not wanting and (seconds > SLOW_SECONDS or held > wanting.size + size):
                holding.lose()
        if self.held + size > self.limit:
            raise self.no_room()


class Holding:
    """What one request holds: its body, what was made of it, its answer.

    Attributes:
        size: bytes.
        lost: whether they were taken from it.
        moving: whether it is the client that must move.
    """

    __slots__ = ("_at", "_budget", "_on_loss", "_recent", "lost", "moving", "size")

    def __init__(self, budget: Budget) -> None:
        self.size = 0
        self.lost = self.moving = False
        self._budget = budget
        self._on_loss: Callable[[], None] | None = None
        self._recent = self._at = 0.0

    def add(self, size: int) -> None:
        """Counts bytes that are here, or are about to be made.

        Raises:
            Fault: there is no room for them, or for those that there were before.
        """
        budget = self._budget
        if self.lost:
            raise budget.no_room()
        if budget.held + size > budget.limit:
            budget.make_room(self, size)
        if not self.size:
            budget.losable.add(self)
        self.size += size
        budget.held += size

    def lose(self) -> None:
        """Takes all from it, in favour of others."""
        on_loss = self._on_loss
        self.release()
        self.lost = True
        if on_loss:
            on_loss()

    def move(self, on_loss: Callable[[], None]) -> None:
        """From now on it is the client that must move: to send on, or to take its answer.

        Args:
            on_loss: called when the bytes are taken from it.
        """
        self.moving, self._on_loss = True, on_loss
        self._budget.losable.add(self)
        self._recent, self._at = self.size + 1.0, time.monotonic()

    def moved(self, size: int) -> None:
        """The client has sent, or taken, so many bytes."""
        now = time.monotonic()
        self._recent, self._at = self._decayed(now) + size, now

    def rest(self, on_loss: Callable[[], None]) -> None:
        """From now on the client need not move; `on_loss` as for `move`."""
        self.moving, self._on_loss = False, on_loss

    def keep(self) -> None:
        """From now on nothing can be taken from it: a model works on it.

        Raises:
            Fault: all was taken before.
        """
        if self.lost:
            raise self._budget.no_room()
        self._budget.losable.discard(self)

    def release(self) -> None:
        """Gives all back."""
        self._budget.losable.discard(self)
        self._budget.held -= self.size
        self.size = 0
        self._on_loss = None  # it may lead back here, and memory in a circle stays for long

    def seconds(self, now: float) -> float:
        """How long the client would need, at its pace, to move its bytes, and one more; 0 if it need not move."""
        return PACE_SECONDS * (self.size + 1) / max(self._decayed(now), 1e-9) if self.moving else 0.0

    @property
    def losable(self) -> int:
        """Bytes that may be taken from it."""
        return self.size if self in self._budget.losable else 0

    @property
    def is_slow(self) -> bool:
        """Whether the client moves so slowly that others come first."""
        return self.seconds(time.monotonic()) > SLOW_SECONDS

    def _decayed(self, now: float) -> float:
        return self._recent * math.exp(min(0.0, self._at - now) / PACE_SECONDS)
