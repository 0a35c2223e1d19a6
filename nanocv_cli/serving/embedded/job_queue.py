"""Requests that wait for a model, and which of them run together: the rules of Triton's `dynamic_batching`.

When an instance is free, the largest batch that can be made goes; a preferred size goes at once; only while no
preferred (or full) batch can be made may a batch wait, and no longer than `max_queue_delay_microseconds` after its
oldest request came. Without `dynamic_batching` every request runs alone.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nanocv_cli.serving.embedded.encoding import Array
from nanocv_cli.serving.embedded.graph_settings import Named
from nanocv_cli.serving.embedded.plan import Rules


@dataclass(eq=False, slots=True)
class Job:
    """A request on its way through the queue.

    Attributes:
        inputs: by name, a row per image.
        rows: images in it.
        request_id: the client's name for it, may be empty.
        timeout_ns: longest wait in the queue; 0 for any.
        arrives: whatever `deliver` needs to hand the answer on.
        arrived: nanoseconds of `time.monotonic_ns`.
        queue_ns: how long it waited, once it has run.
        compute_ns: how long the run took that answered it.
        settings: numbers that the request names; see `graph_settings`.
        layout: the inputs' shapes without rows, and the settings: only requests of one layout can share a batch.
    """

    inputs: dict[str, Array]
    rows: int
    request_id: str
    timeout_ns: int
    arrives: Any
    arrived: int = 0
    queue_ns: int = 0
    compute_ns: int = 0
    settings: Named = ()
    layout: tuple[tuple[int | str | float, ...], ...] = ()


class JobQueue:
    """Jobs in the order in which they came; whoever uses it holds a lock.

    Args:
        rules: how to batch.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._preferred = rules.preferred or frozenset({rules.max_batch})
        self._largest_preferred = max(self._preferred)
        self._jobs: deque[Job] = deque()
        self._late: deque[Job] = deque()
        self._may_be_late = bool(rules.timeout_ns or rules.timeout_override)

    def __len__(self) -> int:
        return len(self._jobs) + len(self._late)

    def append(self, job: Job) -> None:
        """Puts a job behind all that are in time."""
        self._jobs.append(job)

    def remove(self, job: Job) -> bool:
        """Takes a job out; whether it was there."""
        for jobs in (self._jobs, self._late):
            if job in jobs:
                jobs.remove(job)
                return True
        return False

    def clear(self) -> list[Job]:
        """Takes all out."""
        left = [*self._jobs, *self._late]
        self._jobs.clear()
        self._late.clear()
        return left

    def take(self, count: int, into: list[Job]) -> None:
        """Moves the first ones there, one by one: none is ever nowhere."""
        for _ in range(count):
            into.append(self._jobs.popleft() if self._jobs else self._late.popleft())

    def choose(self, now: int, closing: bool) -> tuple[int, int | None]:
        """How many jobs from the head run now, and if none does, how long to wait (None: until one comes).

        Args:
            now: nanoseconds of `time.monotonic_ns`.
            closing: no more will come.
        """
        waiting: Sequence[Job] = self._jobs or self._late
        if not waiting:
            return 0, None
        if not self._rules.batching:
            return 1, None
        rows = best = taken = 0
        layout, grown_out = waiting[0].layout, False
        for job in waiting:
            if taken and (rows + job.rows > self._rules.max_batch or job.layout != layout):
                grown_out = True
                break
            rows, taken = rows + job.rows, taken + 1
            if rows in self._preferred:
                best = taken
        age = now - waiting[0].arrived
        if best and (age < self._rules.delay_ns or not self._rules.delay_ns):
            return best, None
        if grown_out or rows >= self._largest_preferred or age >= self._rules.delay_ns or closing:
            return taken, None
        until = [self._rules.delay_ns - age]
        # Those that are late already have no time left to keep: they would have this asked again at once.
        until += [job.arrived + job.timeout_ns - now for job in self._jobs if job.timeout_ns]
        return 0, max(0, min(until))

    def drop_overdue(self, now: int) -> list[Job]:
        """Takes out and returns those that waited too long, or moves them behind all others."""
        if not self._may_be_late:
            return []
        kept: deque[Job] = deque()
        overdue: list[Job] = []
        for job in self._jobs:
            if not job.timeout_ns or now - job.arrived <= job.timeout_ns:
                kept.append(job)
            elif self._rules.reject_late:
                overdue.append(job)
            else:
                self._late.append(job)
        self._jobs = kept
        return overdue
