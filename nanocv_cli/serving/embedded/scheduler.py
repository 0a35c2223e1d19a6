"""Triton's dynamic batcher: requests queue up (`job_queue.py` has the rules), free instances take the best batch.

Every job gets an answer. A thread that cannot go on, whatever the reason, takes its scheduler out of service: what it
held and what is queued is answered with an error, and so is all that comes later.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from nanocv_cli.serving.embedded.encoding import Array
from nanocv_cli.serving.embedded.faults import Fault, Status, about
from nanocv_cli.serving.embedded.job_queue import Job, JobQueue
from nanocv_cli.serving.embedded.plan import Rules
from nanocv_cli.untrusted import first_line

LOG = logging.getLogger(__name__)

Outcome = dict[str, Array] | Fault
Answers = list[tuple[Job, Outcome]]
# What is left to do after a batch has run, by whoever hands the answers on: while an instance does it, no batch runs.
Finish = Callable[[], Answers]
Execute = Callable[[list[Job]], Finish]
Deliver = Callable[[Finish], None]


class Bell:
    """Wakes one thread that waits. It belongs to the lock of whoever rings; a `Condition` makes one for each wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.has_deadline = False

    def ring(self) -> None:
        """Lets `wait` return; to be called once for each wait at most."""
        self._lock.release()

    def wait(self, seconds: float | None) -> bool:
        """Waits until it rings, or so long; whether it rang."""
        return self._lock.acquire(timeout=-1 if seconds is None else min(seconds, threading.TIMEOUT_MAX))


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
        self._queue = JobQueue(rules)
        # What each thread has taken from the queue and not handed on yet.
        self._taken: dict[int, list[Job]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._idle: list[Bell] = []  # of threads that wait for work
        self._closing = False
        self.failure = ""
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
        return len(self._queue)

    def submit(self, job: Job) -> None:
        """Queues a job.

        Raises:
            Fault: the queue is full, or the model is going away or out of service.
        """
        job.arrived = time.monotonic_ns()
        job.layout = (*(array.shape[1:] for array in job.inputs.values()), *job.settings)
        if not (self._rules.timeout_override and 0 < job.timeout_ns < (self._rules.timeout_ns or job.timeout_ns + 1)):
            job.timeout_ns = self._rules.timeout_ns
        with self._lock:
            if self.failure:
                raise Fault(about(job.request_id, self._unavailable), Status.UNAVAILABLE, "REJECTED")
            if self._closing:
                raise Fault(f"model '{self._name}' is being unloaded", Status.UNAVAILABLE, "REJECTED")
            if self._rules.max_queue and len(self._queue) >= self._rules.max_queue:
                raise Fault(about(job.request_id, "Exceeds maximum queue size"), Status.UNAVAILABLE, "REJECTED")
            self._queue.append(job)
            if self._idle and self._is_worth_waking(job):
                self._idle.pop().ring()

    def abandon(self, job: Job) -> None:
        """Nobody waits for this answer any more: if it has not begun, it never will, and leaves its place to others."""
        with self._lock:
            was_there = self._queue.remove(job)
        if was_there:
            self._rejected(job, "CANCELED")

    def close(self, timeout: float) -> bool:
        """Takes no more jobs, finishes those it has, ends the threads.

        Args:
            timeout: seconds to wait for that; jobs still queued then are refused.

        Returns:
            whether all ended in time.
        """
        with self._lock:
            self._closing = True
            self._wake_all()
            self._ended.wait_for(lambda: not self._working, timeout)
            left = self._queue.clear()
        self._refuse(left, "the server is shutting down")
        return not (left or self._working or self._stuck)

    def lose(self, number: int, why: str) -> None:
        """An instance does not come back from its batch: takes the scheduler out of service.

        Args:
            number: of the instance.
            why: for those who wait for an answer.
        """
        with self._lock:
            first, self.failure = not self.failure, self.failure or why
            if number in self._working:
                self._working.remove(number)
                self._stuck.add(number)
            left = [*self._taken.pop(number, ()), *self._queue.clear()]
            self._wake_all()
            self._ended.notify_all()
        if first and not self._closing:
            LOG.error("%s", self._unavailable)
        self._refuse(left, self._unavailable)

    @property
    def _unavailable(self) -> str:
        return f"model '{self._name}' is unavailable: {self.failure}"

    def _serve(self, number: int, execute: Execute) -> None:
        try:
            bell = Bell()
            while (batch := self._next_batch(number, bell)) is not None:
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
            with self._lock:
                self._working.discard(number)
                self._stuck.discard(number)
                self._ended.notify_all()

    def _is_worth_waking(self, job: Job) -> bool:
        """Whether a thread has something to do now that a job has come: none while one waits for a fuller batch."""
        if not (self._rules.delay_ns and any(bell.has_deadline for bell in self._idle)):
            return True
        return job.timeout_ns > 0 or self._queue.choose(job.arrived, self._closing)[0] > 0

    def _wake_all(self) -> None:
        while self._idle:
            self._idle.pop().ring()

    def _next_batch(self, number: int, bell: Bell) -> list[Job] | None:
        """Waits for work and takes it; None when there will be none any more."""
        while True:
            with self._lock:
                if self.failure:
                    return None
                now = time.monotonic_ns()
                if overdue := self._queue.drop_overdue(now):
                    self._taken[number] = overdue
                    break
                chosen, wait_ns = self._queue.choose(now, self._closing)
                if chosen:
                    batch = self._taken[number] = []
                    self._queue.take(chosen, batch)
                    if self._idle and len(self._queue):
                        self._idle.pop().ring()
                    return batch
                if self._closing and not len(self._queue):
                    return None
                bell.has_deadline = wait_ns is not None
                self._idle.append(bell)
            if not bell.wait(None if wait_ns is None else wait_ns / 1e9):
                with self._lock:
                    if bell in self._idle:
                        self._idle.remove(bell)
                    else:  # it rang meanwhile
                        bell.wait(None)
        self._refuse(overdue, "Request timeout expired")
        self._taken.pop(number, None)
        return []

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
