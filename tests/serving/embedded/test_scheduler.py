"""The queue's rules, with instances that answer when they are told to."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.job_queue import Job, JobQueue
from nanocv_cli.serving.embedded.plan import Rules
from nanocv_cli.serving.embedded.scheduler import Finish, Scheduler

MS = 1_000_000


class Instances:
    """Copies of a model that hold every batch until the test lets it go."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = threading.Semaphore(0)
        self.taken = threading.Condition()
        self.delivered: dict[str, Any] = {}
        self.refused: list[tuple[str, str]] = []

    def execute(self, batch: list[Job]) -> Finish:
        with self.taken:
            self.batches.append([job.request_id for job in batch])
            self.taken.notify_all()
        assert self.gate.acquire(timeout=10)
        return lambda: [(job, {"y": job.inputs["x"] * 2}) for job in batch]

    def deliver(self, finish: Finish) -> None:
        with self.taken:
            self.delivered |= {job.request_id: outcome for job, outcome in finish()}
            self.taken.notify_all()

    def reject(self, job: Job, reason: str) -> None:
        self.refused.append((job.request_id, reason))

    def wait_for_batches(self, count: int) -> None:
        with self.taken:
            assert self.taken.wait_for(lambda: len(self.batches) >= count, timeout=10)

    def wait_for_answers(self, *names: str) -> None:
        with self.taken:
            assert self.taken.wait_for(lambda: set(names) <= set(self.delivered), timeout=10)


def job(name: str, rows: int = 1, width: int = 4, timeout_ns: int = 0) -> Job:
    return Job({"x": np.full((rows, width), 7, np.int64)}, rows, name, timeout_ns, None)


@pytest.fixture
def instances() -> Instances:
    return Instances()


class Opened:
    """Makes schedulers and ends them with the test."""

    def __init__(self, instances: Instances) -> None:
        self.instances = instances
        self.made: list[Scheduler] = []

    def __call__(self, rules: Rules, copies: int = 1) -> Scheduler:
        execute = [self.instances.execute] * copies
        scheduler = Scheduler("m", rules, execute, self.instances.deliver, self.instances.reject)
        self.made.append(scheduler)
        return scheduler


@pytest.fixture
def scheduler(instances: Instances) -> Iterator[Opened]:
    opened = Opened(instances)
    yield opened
    for _ in range(1000):
        instances.gate.release()
    for one in opened.made:
        assert one.close(10)


def occupied(scheduler: Scheduler, instances: Instances) -> None:
    """Gives the one instance something to do, so that what comes next has to queue."""
    scheduler.submit(job("first"))
    instances.wait_for_batches(1)


def test_without_dynamic_batching_every_request_runs_alone(scheduler: Opened, instances: Instances) -> None:
    opened = scheduler(Rules(batching=False, max_batch=4))
    occupied(opened, instances)
    for name in "abc":
        opened.submit(job(name))
    for _ in range(4):
        instances.gate.release()
    instances.wait_for_batches(4)
    assert instances.batches == [["first"], ["a"], ["b"], ["c"]]


def test_a_free_instance_takes_the_largest_batch_that_fits(scheduler: Opened, instances: Instances) -> None:
    opened = scheduler(Rules(batching=True, max_batch=4))
    occupied(opened, instances)
    for name, rows in (("a", 1), ("b", 2), ("c", 2), ("d", 1)):
        opened.submit(job(name, rows))
    for _ in range(3):
        instances.gate.release()
    instances.wait_for_batches(3)
    # c would make 5 rows; the order of arrival is kept, so d does not overtake it.
    assert instances.batches == [["first"], ["a", "b"], ["c", "d"]]


def test_requests_of_other_shapes_do_not_share_a_batch(scheduler: Opened, instances: Instances) -> None:
    opened = scheduler(Rules(batching=True, max_batch=8))
    occupied(opened, instances)
    for name, width in (("a", 4), ("b", 4), ("c", 5), ("d", 4)):
        opened.submit(job(name, width=width))
    for _ in range(4):
        instances.gate.release()
    instances.wait_for_batches(4)
    assert instances.batches[1:] == [["a", "b"], ["c"], ["d"]]


def test_a_batch_waits_for_more_but_no_longer_than_the_delay(scheduler: Opened, instances: Instances) -> None:
    opened = scheduler(Rules(batching=True, max_batch=4, delay_ns=200 * MS))
    start = time.monotonic()
    opened.submit(job("a"))
    opened.submit(job("b"))
    instances.wait_for_batches(1)
    assert time.monotonic() - start >= 0.19
    assert instances.batches == [["a", "b"]]


def test_a_full_batch_does_not_wait(scheduler: Opened, instances: Instances) -> None:
    opened = scheduler(Rules(batching=True, max_batch=2, delay_ns=60_000 * MS))
    opened.submit(job("a"))
    opened.submit(job("b"))
    instances.wait_for_batches(1)
    assert instances.batches == [["a", "b"]]


def test_a_batch_that_cannot_grow_does_not_wait(scheduler: Opened, instances: Instances) -> None:
    opened = scheduler(Rules(batching=True, max_batch=4, delay_ns=60_000 * MS))
    opened.submit(job("a", rows=3))
    opened.submit(job("b", rows=3))
    instances.wait_for_batches(1)
    assert instances.batches == [["a"]]
    instances.gate.release()
    instances.wait_for_answers("a")


def test_a_preferred_size_goes_at_once(scheduler: Opened, instances: Instances) -> None:
    rules = Rules(batching=True, max_batch=8, preferred=frozenset({2, 6}), delay_ns=60_000 * MS)
    opened = scheduler(rules)
    occupied_rules = [job(name) for name in "abc"]
    for one in occupied_rules[:2]:
        opened.submit(one)
    instances.wait_for_batches(1)
    assert instances.batches == [["a", "b"]]


def test_of_several_preferred_sizes_the_largest_goes(scheduler: Opened, instances: Instances) -> None:
    opened = scheduler(Rules(batching=True, max_batch=8, preferred=frozenset({1, 3}), delay_ns=60_000 * MS))
    occupied(opened, instances)
    for name in "abcde":
        opened.submit(job(name))
    instances.gate.release()
    instances.wait_for_batches(2)
    assert instances.batches[1] == ["a", "b", "c"]


def test_two_instances_work_side_by_side(scheduler: Opened, instances: Instances) -> None:
    opened = scheduler(Rules(batching=True, max_batch=1), copies=2)
    opened.submit(job("a"))
    opened.submit(job("b"))
    instances.wait_for_batches(2)  # neither has been let go
    assert sorted(instances.batches) == [["a"], ["b"]]


def test_a_full_queue_refuses(scheduler: Opened, instances: Instances) -> None:
    opened = scheduler(Rules(batching=True, max_batch=4, max_queue=2))
    occupied(opened, instances)
    opened.submit(job("a"))
    opened.submit(job("b"))
    with pytest.raises(Fault, match="Exceeds maximum queue size") as refused:
        opened.submit(job("c"))
    assert refused.value.status is Status.UNAVAILABLE
    for _ in range(2):
        instances.gate.release()
    instances.wait_for_answers("a", "b")
    assert "c" not in instances.delivered


def test_late_requests_are_refused(scheduler: Opened, instances: Instances) -> None:
    opened = scheduler(Rules(batching=True, max_batch=1, timeout_ns=20 * MS))
    occupied(opened, instances)
    opened.submit(job("late"))
    time.sleep(0.05)
    instances.gate.release()
    instances.wait_for_answers("late")
    assert instances.delivered["late"].status is Status.UNAVAILABLE
    assert instances.refused == [("late", "REJECTED")]


def test_late_requests_may_be_served_last_instead(scheduler: Opened, instances: Instances) -> None:
    opened = scheduler(Rules(batching=True, max_batch=1, timeout_ns=50 * MS, reject_late=False))
    occupied(opened, instances)
    opened.submit(job("late"))
    time.sleep(0.1)
    opened.submit(job("punctual"))
    for _ in range(3):
        instances.gate.release()
    instances.wait_for_answers("late")
    assert instances.batches == [["first"], ["punctual"], ["late"]]


def test_a_late_request_that_waits_for_a_batch_keeps_no_thread_busy(
    scheduler: Opened, instances: Instances, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, choose = list[int | None](), JobQueue.choose

    def counted(queue: JobQueue, now: int, closing: bool) -> tuple[int, int | None]:
        found = choose(queue, now, closing)
        waits.append(found[1])
        return found

    monkeypatch.setattr(JobQueue, "choose", counted)
    opened = scheduler(Rules(True, 4, delay_ns=500 * MS, timeout_ns=10 * MS, reject_late=False))
    opened.submit(job("late"))
    instances.wait_for_batches(1)
    assert instances.batches == [["late"]]
    assert len(waits) < 20


def test_a_request_may_shorten_its_timeout_only_where_that_is_allowed(scheduler: Opened, instances: Instances) -> None:
    strict = scheduler(Rules(batching=True, max_batch=1, timeout_ns=60_000 * MS))
    occupied(strict, instances)
    strict.submit(job("kept", timeout_ns=MS))
    lenient = scheduler(Rules(batching=True, max_batch=1, timeout_ns=60_000 * MS, timeout_override=True))
    lenient.submit(job("other"))
    instances.wait_for_batches(2)
    lenient.submit(job("dropped", timeout_ns=MS))
    time.sleep(0.02)
    for _ in range(4):
        instances.gate.release()
    instances.wait_for_answers("kept", "dropped")
    assert isinstance(instances.delivered["dropped"], Fault)
    assert not isinstance(instances.delivered["kept"], Fault)


def test_whoever_waits_less_long_than_a_batch_for_others_is_not_forgotten(
    scheduler: Opened, instances: Instances
) -> None:
    opened = scheduler(Rules(batching=True, max_batch=4, delay_ns=60_000 * MS, timeout_override=True))
    opened.submit(job("patient"))
    time.sleep(0.02)  # the instance waits for more by now
    opened.submit(job("impatient", timeout_ns=MS))
    instances.wait_for_answers("impatient")
    assert isinstance(instances.delivered["impatient"], Fault)
    for name in "abc":
        opened.submit(job(name))
    instances.wait_for_batches(1)
    assert instances.batches == [["patient", "a", "b", "c"]]


def test_abandoned_requests_never_run_and_leave_their_place(scheduler: Opened, instances: Instances) -> None:
    opened = scheduler(Rules(batching=True, max_batch=4, max_queue=2))
    occupied(opened, instances)
    gone, here = job("gone"), job("here")
    opened.submit(gone)
    opened.submit(here)
    opened.abandon(gone)
    assert instances.refused == [("gone", "CANCELED")]
    opened.submit(job("instead"))  # the queue holds two
    for _ in range(2):
        instances.gate.release()
    instances.wait_for_answers("here", "instead")
    assert instances.batches == [["first"], ["here", "instead"]]


def test_a_late_request_may_be_abandoned_too(scheduler: Opened, instances: Instances) -> None:
    opened = scheduler(Rules(batching=True, max_batch=1, timeout_override=True, reject_late=False))
    occupied(opened, instances)
    late = job("late", timeout_ns=10 * MS)  # the others wait as long as it takes
    opened.submit(late)
    time.sleep(0.05)
    opened.submit(job("punctual"))
    instances.gate.release()
    instances.wait_for_batches(2)  # it was moved behind all others
    opened.abandon(late)
    for _ in range(2):
        instances.gate.release()
    instances.wait_for_answers("punctual")
    assert opened.waiting == 0
    assert instances.refused == [("late", "CANCELED")]


def test_what_has_begun_is_not_abandoned(scheduler: Opened, instances: Instances) -> None:
    opened = scheduler(Rules(batching=True, max_batch=1))
    begun = job("begun")
    opened.submit(begun)
    instances.wait_for_batches(1)
    opened.abandon(begun)
    instances.gate.release()
    instances.wait_for_answers("begun")
    assert instances.refused == []


def test_closing_finishes_what_is_queued_and_takes_no_more(instances: Instances) -> None:
    rules = Rules(batching=True, max_batch=2, delay_ns=60_000 * MS)
    opened = Scheduler("m", rules, [instances.execute], instances.deliver, instances.reject)
    opened.submit(job("a"))
    for _ in range(3):
        instances.gate.release()
    assert opened.close(10)
    assert set(instances.delivered) == {"a"}
    with pytest.raises(Fault, match="being unloaded"):
        opened.submit(job("b"))


def test_what_cannot_be_finished_in_time_is_refused(instances: Instances) -> None:
    opened = Scheduler(
        "m", Rules(batching=False, max_batch=1), [instances.execute], instances.deliver, instances.reject
    )
    occupied(opened, instances)
    opened.submit(job("left"))
    assert not opened.close(0.05)
    assert instances.delivered["left"].status is Status.UNAVAILABLE
    instances.gate.release()
    instances.wait_for_answers("first")


REFUSE = "raised by the test"


class Bad(Exception):
    """What nobody expects."""


def out_of_service(opened: Scheduler) -> Fault:
    """What a scheduler says that does not serve any more."""
    deadline = time.monotonic() + 10
    while not opened.failure:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(Fault) as refused:
        opened.submit(job("too late"))
    assert refused.value.status is Status.UNAVAILABLE
    assert "is unavailable" in refused.value.message
    return refused.value


@pytest.mark.parametrize("error", [Bad(REFUSE), MemoryError(REFUSE), OverflowError(REFUSE), SystemExit(REFUSE)])
@pytest.mark.parametrize("place", ["execute", "deliver", "deliver a refusal", "choose", "drop"])
@pytest.mark.parametrize("copies", [1, 2])
def test_a_thread_that_ends_takes_its_scheduler_out_of_service_and_every_job_has_an_answer(
    instances: Instances,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
    place: str,
    copies: int,
) -> None:
    armed = threading.Event()

    def once(good: Any) -> Any:
        def call(*arguments: Any) -> Any:
            if armed.is_set():
                armed.clear()
                raise error
            return good(*arguments)

        return call

    deliver, execute = instances.deliver, instances.execute
    if place.startswith("deliver"):
        deliver = once(deliver)
    elif place == "execute":
        execute = once(execute)
    elif place == "choose":
        monkeypatch.setattr(JobQueue, "choose", once(JobQueue.choose))
    elif place == "drop":
        monkeypatch.setattr(JobQueue, "drop_overdue", once(JobQueue.drop_overdue))
    rules = Rules(batching=True, max_batch=2, timeout_ns=300 * MS if place == "deliver a refusal" else 0)
    opened = Scheduler("m", rules, [execute] * copies, deliver, instances.reject)
    for number in range(copies):
        opened.submit(job(f"first {number}"))
        instances.wait_for_batches(number + 1)
    queued = [job(name) for name in "abcde"]
    for one in queued:
        opened.submit(one)
    if place == "deliver a refusal":
        time.sleep(0.4)
    armed.set()
    for _ in range(20):
        instances.gate.release()
    said = out_of_service(opened)
    assert type(error).__name__ in said.message
    expected = {f"first {number}" for number in range(copies)} | set("abcde")
    instances.wait_for_answers(*expected)
    assert any(isinstance(instances.delivered[name], Fault) for name in expected)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "\n" not in caplog.records[0].getMessage()
    assert opened.close(10)


def test_answers_that_cannot_be_made_are_answers_too(
    scheduler: Opened, instances: Instances, caplog: pytest.LogCaptureFixture
) -> None:
    """They are made in the event loop, where a failure would leave the client waiting for ever."""

    def execute(batch: list[Job]) -> Finish:
        def finish() -> Any:
            raise MemoryError

        return finish if batch[0].request_id == "bad" else lambda: [(job, {}) for job in batch]

    opened = Scheduler("m", Rules(batching=False, max_batch=1), [execute], instances.deliver, instances.reject)
    for name in ("bad", "good"):
        opened.submit(job(name))
    instances.wait_for_answers("bad", "good")
    assert instances.delivered["bad"].status is Status.INTERNAL
    assert instances.delivered["good"] == {}
    assert "MemoryError" in caplog.text
    assert opened.close(10)


def test_a_job_without_a_layout_harms_nobody_else(scheduler: Opened, instances: Instances) -> None:
    opened = scheduler(Rules(batching=True, max_batch=4))
    bad = job("bad")
    bad.inputs = {"x": None}  # type: ignore[dict-item]
    with pytest.raises(AttributeError):
        opened.submit(bad)
    opened.submit(job("good"))
    instances.gate.release()
    instances.wait_for_answers("good")


@pytest.mark.parametrize("delay_ns", [2**63 * 1000, 2**64 * 1000, 10**40])
def test_a_wait_longer_than_threads_can_is_still_a_wait(scheduler: Opened, instances: Instances, delay_ns: int) -> None:
    opened = scheduler(Rules(batching=True, max_batch=2, delay_ns=delay_ns, timeout_ns=delay_ns))
    opened.submit(job("a"))
    time.sleep(0.05)
    opened.submit(job("b"))
    for _ in range(2):
        instances.gate.release()
    instances.wait_for_answers("a", "b")
    assert not opened.failure


def test_an_instance_that_does_not_come_back_is_given_up(
    instances: Instances, caplog: pytest.LogCaptureFixture
) -> None:
    opened = Scheduler("m", Rules(batching=True, max_batch=1), [instances.execute], instances.deliver, instances.reject)
    occupied(opened, instances)
    opened.submit(job("queued"))
    opened.lose(0, "it does not stop")
    instances.wait_for_answers("first", "queued")
    assert all(isinstance(instances.delivered[name], Fault) for name in ("first", "queued"))
    assert "it does not stop" in out_of_service(opened).message
    start = time.monotonic()
    assert not opened.close(10)  # its thread still runs, and is not waited for
    assert time.monotonic() - start < 5
    instances.delivered.clear()
    instances.gate.release()
    deadline = time.monotonic() + 10
    while not opened.close(0.0):
        assert time.monotonic() < deadline
    assert instances.delivered == {}  # nor is what it found handed on


def test_without_threads_there_is_no_scheduler(instances: Instances, monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, []

    def third_fails(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", third_fails)
    with pytest.raises(RuntimeError):
        Scheduler("m", Rules(False, 1), [instances.execute] * 4, instances.deliver, instances.reject)
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()
