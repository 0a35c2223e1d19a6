"""What a model has done so far, as Triton's statistics extension and metrics count it."""

import threading
import time
from dataclasses import dataclass, field
from typing import NamedTuple

REASONS = ("OTHER", "BACKEND", "CANCELED", "REJECTED")


@dataclass
class Duration:
    """How often, and how long in all, in nanoseconds."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        """Adds `count` events that took `ns` together."""
        self.count += count
        self.ns += ns


@dataclass
class BatchDurations:
    """Where executions of one batch size spent their time."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


class Execution(NamedTuple):
    """One run of the graph, with its times in nanoseconds of `time.monotonic_ns`.

    Attributes:
        rows: images in the batch.
        arrivals: of each request in it.
        started: the batch was taken from the queue.
        loaded: its inputs lay ready.
        computed: the graph had run.
        cutting: its outputs began to be cut apart (in another thread, so not at once).
        finished: the answers were ready.
    """

    rows: int
    arrivals: tuple[int, ...]
    started: int
    loaded: int
    computed: int
    cutting: int
    finished: int


class Statistics:
    """Counters of one model version; safe from all threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.last_inference = 0  # milliseconds since the epoch
        self.inference_count = 0
        self.execution_count = 0
        self.success, self.fail, self.queue = Duration(), Duration(), Duration()
        self.compute_input, self.compute_infer, self.compute_output = Duration(), Duration(), Duration()
        self.batches: dict[int, BatchDurations] = {}
        self.failures = dict.fromkeys(REASONS, 0)

    def ran(self, execution: Execution) -> None:
        """Adds a run that answered all its requests; each request is charged with the whole run, as Triton does."""
        e, requests = execution, len(execution.arrivals)
        load, infer, output = e.loaded - e.started, e.computed - e.loaded, e.finished - e.cutting
        arrived = sum(e.arrivals)
        with self.lock:
            self.last_inference = time.time_ns() // 1_000_000
            self.inference_count += e.rows
            self.execution_count += 1
            self.success.add(requests * e.finished - arrived, requests)
            self.queue.add(requests * e.started - arrived, requests)
            self.compute_input.add(load * requests, requests)
            self.compute_infer.add(infer * requests, requests)
            self.compute_output.add(output * requests, requests)
            if (batch := self.batches.get(e.rows)) is None:
                batch = self.batches[e.rows] = BatchDurations()
            batch.compute_input.add(load)
            batch.compute_infer.add(infer)
            batch.compute_output.add(output)

    def failed(self, arrived: int, reason: str) -> None:
        """Adds a request that was answered with an error.

        Args:
            arrived: nanoseconds of `time.monotonic_ns`.
            reason: one of `REASONS`.
        """
        with self.lock:
            self.fail.add(time.monotonic_ns() - arrived)
            self.failures[reason] += 1
