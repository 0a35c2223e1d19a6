"""Triton's dynamic batcher: requests queue up, free instances take the best batch that is there.

The rules, as Triton documents them for `dynamic_batching`: when an instance is free, the largest batch that can be made
goes; a preferred size goes at once; only while no preferred (or full) batch can be made may a batch wait, and no longer
than `max_queue_delay_microseconds` after its oldest request came. Without `dynamic_batching` every request runs alone.

Every job gets an answer. A thread that cannot go on, whatever the reason, takes its scheduler out of service: what it
held and what is queued is answered with an error, and so is all that comes later.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nanocv_cli.serving.embedded.encoding import Array
from nanocv_cli.serving.embedded.faults import Fault, Status, about
from nanocv_cli.serving.embedded.plan import Rules
from nanocv_cli.untrusted import first_line

LOG = logging.getLogger(__name__)


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
        layout: the inputs' shapes without rows: only requests of one layout can share a batch.
    """

    inputs: dict[str, Array]
    rows: int
    request_id: str
    timeout_ns: int
    arrives: Any
    arrived: int = 0
    queue_ns: int = 0
    compute_ns: int = 0
    layout: tuple[tuple[int, ...], ...] = ()


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
        instances: one function for each copy of the model, which runs a batch. A batch that fails is an answer too: one
            that raises takes the scheduler out of service.
        deliver: called from an instance's thread with what makes the answers of a batch; it passes that to a thread
            that has the time.
        rejected: called with every job that is refused in the queue, and why.

    Attributes:
        failure: why it is out of service; empty while it serves.
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
        self._largest_preferred = max(self._preferred)
        self._queue: deque[Job] = deque()
        self._late: deque[Job] = deque()
        # What each thread has taken from the queue and not handed on yet.
        self._taken: dict[int, list[Job]] = {}
        self._changed = threading.Condition()
        self._closing = False
        self.failure = ""
        self._may_be_late = bool(rules.timeout_ns or rules.timeout_override)
        # Threads that serve, and threads that were given up while they ran a batch.
        self._working: set[int] = set()
        self._stuck: set[int] = set()
        try:
            for number, execute in enumerate(instances):
                self._working.add(number)
                threading.Thread(
                    target=self._serve, args=(number, execute), name=f"{name}-{number}", daemon=True
                ).start()
        except BaseException:  # there are no more threads to be had: those that began have to end
            self.close(0.0)
            raise

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue) + len(self._late)

    def submit(self, job: Job) -> None:
        """Queues a job.

        Raises:
            Fault: the queue is full, or the model is going away or out of service.
        """
        job.arrived = time.monotonic_ns()
        job.layout = tuple(array.shape[1:] for array in job.inputs.values())
        if not (self._rules.timeout_override and 0 < job.timeout_ns < (self._rules.timeout_ns or job.timeout_ns + 1)):
            job.timeout_ns = self._rules.timeout_ns
        with self._changed:
            if self.failure:
                raise Fault(about(job.request_id, self._unavailable), Status.UNAVAILABLE, "REJECTED")
            if self._closing:
                raise Fault(f"model '{self._name}' is being unloaded", Status.UNAVAILABLE, "REJECTED")
            if self._rules.max_queue and self.waiting >= self._rules.max_queue:
                raise Fault(about(job.request_id, "Exceeds maximum queue size"), Status.UNAVAILABLE, "REJECTED")
            self._queue.append(job)
            self._changed.notify()

    def abandon(self, job: Job) -> None:
        """Nobody waits for this answer any more: if it has not begun, it never will, and leaves its place to others."""
        with self._changed:
            queue = next((queue for queue in (self._queue, self._late) if job in queue), None)
            if queue is None:
                return
            queue.remove(job)
        self._rejected(job, "CANCELED")

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
            self._changed.wait_for(lambda: not self._working, timeout)
            left = [*self._queue, *self._late]
            self._queue.clear()
            self._late.clear()
        self._refuse(left, "the server is shutting down")
        return not (left or self._working or self._stuck)

    def lose(self, number: int, why: str) -> None:
        """An instance does not come back from its batch: takes the scheduler out of service.

        Args:
            number: of the instance.
            why: for those who wait for an answer.
        """
        with self._changed:
            first, self.failure = not self.failure, self.failure or why
            if number in self._working:
                self._working.remove(number)
                self._stuck.add(number)
            left = [*self._taken.pop(number, ()), *self._queue, *self._late]
            self._queue.clear()
            self._late.clear()
            self._changed.notify_all()
        if first and not self._closing:
            LOG.error("%s", self._unavailable)
        self._refuse(left, self._unavailable)

    @property
    def _unavailable(self) -> str:
        return f"model '{self._name}' is unavailable: {self.failure}"

    def _serve(self, number: int, execute: Execute) -> None:
        try:
            while (batch := self._next_batch(number)) is not None:
                if batch:
                    finish = execute(batch)
                    if number not in self._working:
                        return  # it took too long: the jobs have their answer
                    self._deliver(self._certain(finish, batch))
                    self._taken.pop(number, None)
        except BaseException as error:  # nothing may end this thread in silence
            self._working.discard(number)
            try:
                self.lose(number, f"a thread of its scheduler ended: {type(error).__name__}: {first_line(error)}")
            except Exception as second:  # not even a refusal can be handed on: at the end of the server, to nobody
                if not self._closing:
                    LOG.error("requests of model '%s' are lost: %s", self._name, first_line(second))
        finally:
            with self._changed:
                self._working.discard(number)
                self._stuck.discard(number)
                self._changed.notify_all()

    def _next_batch(self, number: int) -> list[Job] | None:
        """Waits for work and takes it; None when there will be none any more."""
        with self._changed:
            while True:
                if self.failure:
                    return None
                now = time.monotonic_ns()
                overdue = self._drop_overdue(now)
                if overdue:
                    self._taken[number] = overdue
                    break
                chosen, wait_ns = self._choose(now)
                if chosen:
                    batch = self._taken[number] = []
                    for _ in range(chosen):
                        batch.append(self._pop())
                    if self.waiting:
                        self._changed.notify()
                    return batch
                if self._closing and not self.waiting:
                    return None
                self._changed.wait(None if wait_ns is None else min(wait_ns / 1e9, threading.TIMEOUT_MAX))
        self._refuse(overdue, "Request timeout expired")
        self._taken.pop(number, None)
        return []

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
        if grown_out or rows >= self._largest_preferred or age >= self._rules.delay_ns or self._closing:
            return taken, None
        until = [self._rules.delay_ns - age]
        until += [job.arrived + job.timeout_ns - now for job in waiting if job.timeout_ns]
        return 0, max(0, min(until))

    def _pop(self) -> Job:
        return self._queue.popleft() if self._queue else self._late.popleft()

    def _drop_overdue(self, now: int) -> list[Job]:
        """Takes out and returns those that waited too long, or moves them behind all others."""
        if not self._may_be_late:
            return []
        kept: deque[Job] = deque()
        overdue: list[Job] = []
        for job in self._queue:
            if not job.timeout_ns or now - job.arrived <= job.timeout_ns:
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
            self._deliver(self._certain(finish, jobs))

    def _certain(self, finish: Finish, jobs: list[Job]) -> Finish:
        """What makes an answer for each job even if `finish` fails; it runs where a failure would reach nobody."""

        def answers() -> Answers:
            try:
                return finish()
            except Exception as error:
                LOG.error("a batch of model '%s' was lost: %s", self._name, first_line(error))
                why = f"the answer could not be made: {type(error).__name__}"
                return [(job, Fault(about(job.request_id, why), Status.INTERNAL, "BACKEND")) for job in jobs]

        return answers
