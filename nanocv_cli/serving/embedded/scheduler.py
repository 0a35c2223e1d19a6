"""Triton's dynamic batcher: requests queue up, free instances take the best batch that is there.

The rules, as Triton documents them for `dynamic_batching`: when an instance is free, the largest batch that can be made
goes; a preferred size goes at once; only while no preferred (or full) batch can be made may a batch wait, and no longer
than `max_queue_delay_microseconds` after its oldest request came. Without `dynamic_batching` every request runs alone.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nanocv_cli.serving.embedded.faults import Fault, Status, about
from nanocv_cli.serving.embedded.tensors import Array


@dataclass(eq=False, slots=True)
class Job:
    """A request on its way through the queue.

    Attributes:
        inputs: by name, a row per picture.
        rows: pictures in it.
        request_id: the client's name for it, may be empty.
        timeout_ns: longest wait in the queue; 0 for any.
        arrives: whatever `deliver` needs to hand the answer on.
        arrived: nanoseconds of `time.monotonic_ns`.
        abandoned: nobody waits for the answer any more.
    """

    inputs: dict[str, Array]
    rows: int
    request_id: str
    timeout_ns: int
    arrives: Any
    arrived: int = 0
    abandoned: bool = False

    @property
    def layout(self) -> tuple[tuple[int, ...], ...]:
        """The inputs' shapes without rows: only requests of one layout can share a batch."""
        return tuple(array.shape[1:] for array in self.inputs.values())


@dataclass(frozen=True)
class Rules:
    """How a queue is batched and bounded.

    Attributes:
        batching: False runs every request alone.
        max_batch: most rows of a batch.
        preferred: batch sizes worth running without waiting; empty means `max_batch`.
        delay_ns: longest wait for a better batch.
        max_queue: most requests that wait; 0 for any number.
        timeout_ns: of requests that name none; 0 for any.
        timeout_override: a request may name a shorter one.
        reject_late: late requests get an error; else they are served after all others.
    """

    batching: bool
    max_batch: int
    preferred: frozenset[int] = frozenset()
    delay_ns: int = 0
    max_queue: int = 0
    timeout_ns: int = 0
    timeout_override: bool = False
    reject_late: bool = True


Outcome = dict[str, Array] | Fault
Answers = list[tuple[Job, Outcome]]
# What is left to do after a batch has run, by whoever hands the answers on: while an instance does it, no batch runs.
Finish = Callable[[], Answers]
Execute = Callable[[list[Job]], Finish]
Deliver = Callable[[Finish], None]


class Scheduler:
    """A queue and the threads that empty it.

    Args:
        name: of the model, for messages.
        rules: how to batch.
        instances: one function for each copy of the model; it runs a batch and never raises.
        deliver: called from an instance's thread with what makes the answers of a batch; it passes that to a thread
            that has the time.
        rejected: called with every job that is refused in the queue, and why.
    """

    def __init__(
        self,
        name: str,
        rules: Rules,
        instances: Sequence[Execute],
        deliver: Deliver,
        rejected: Callable[[Job, str], None],
    ) -> None:
        self._name, self._rules, self._deliver, self._rejected = name, rules, deliver, rejected
        self._preferred = rules.preferred or frozenset({rules.max_batch})
        self._queue: deque[Job] = deque()
        self._late: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        # Only then is it worth looking through the queue for jobs to take out.
        self._watched = bool(rules.timeout_ns or rules.timeout_override)
        self._threads = [
            threading.Thread(target=self._serve, args=(execute,), name=f"{name}-{number}", daemon=True)
            for number, execute in enumerate(instances)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue) + len(self._late)

    def submit(self, job: Job) -> None:
        """Queues a job.

        Raises:
            Fault: the queue is full, or the model is going away.
        """
        job.arrived = time.monotonic_ns()
        if not (self._rules.timeout_override and 0 < job.timeout_ns < (self._rules.timeout_ns or job.timeout_ns + 1)):
            job.timeout_ns = self._rules.timeout_ns
        with self._changed:
            if self._closing:
                raise Fault(f"model '{self._name}' is being unloaded", Status.UNAVAILABLE, "REJECTED")
            if self._rules.max_queue and self.waiting >= self._rules.max_queue:
                raise Fault(about(job.request_id, "Exceeds maximum queue size"), Status.UNAVAILABLE, "REJECTED")
            self._queue.append(job)
            self._changed.notify()

    def abandon(self, job: Job) -> None:
        """Nobody waits for this answer any more: if it has not begun, it never will."""
        job.abandoned = self._watched = True

    def close(self, timeout: float) -> bool:
        """Takes no more jobs, finishes those it has, ends the threads.

        Args:
            timeout: seconds to wait for that; jobs still queued then are refused.

        Returns:
            whether all ended in time.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            left = [*self._queue, *self._late]
            self._queue.clear()
            self._late.clear()
        self._refuse(left, "the server is shutting down")
        return not left and not any(thread.is_alive() for thread in self._threads)

    def _serve(self, execute: Execute) -> None:
        while (batch := self._next_batch()) is not None:
            if batch:
                self._deliver(execute(batch))

    def _next_batch(self) -> list[Job] | None:
        """Waits for work; None when there will be none any more."""
        overdue: list[Job] = []
        with self._changed:
            while True:
                now = time.monotonic_ns()
                overdue += self._drop_overdue(now)
                if overdue:
                    batch: list[Job] = []
                    break
                chosen, wait_ns = self._choose(now)
                if chosen:
                    batch = [self._pop() for _ in range(chosen)]
                    if self.waiting:
                        self._changed.notify()
                    break
                if self._closing and not self.waiting:
                    return None
                self._changed.wait(None if wait_ns is None else wait_ns / 1e9)
        self._refuse(overdue, "Request timeout expired")
        return batch

    def _choose(self, now: int) -> tuple[int, int | None]:
        """How many jobs from the head run now, and if none does, how long to wait (None: until one comes)."""
        waiting: Sequence[Job] = self._queue or self._late
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
        if grown_out or rows >= max(self._preferred) or age >= self._rules.delay_ns or self._closing:
            return taken, None
        until = [self._rules.delay_ns - age]
        until += [job.arrived + job.timeout_ns - now for job in waiting if job.timeout_ns]
        return 0, max(0, min(until))

    def _pop(self) -> Job:
        return self._queue.popleft() if self._queue else self._late.popleft()

    def _drop_overdue(self, now: int) -> list[Job]:
        """Takes abandoned jobs out; returns those that waited too long, or moves them behind all others."""
        if not self._watched:
            return []
        kept: deque[Job] = deque()
        overdue: list[Job] = []
        for job in self._queue:
            if job.abandoned:
                self._rejected(job, "CANCELED")
            elif not job.timeout_ns or now - job.arrived <= job.timeout_ns:
                kept.append(job)
            elif self._rules.reject_late:
                overdue.append(job)
            else:
                self._late.append(job)
        self._queue = kept
        return overdue

    def _refuse(self, jobs: list[Job], why: str) -> None:
        def finish() -> Answers:
            for job in jobs:
                self._rejected(job, "REJECTED")
            return [(job, Fault(about(job.request_id, why), Status.UNAVAILABLE, "REJECTED")) for job in jobs]

        if jobs:
            self._deliver(finish)
