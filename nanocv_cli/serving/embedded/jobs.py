"""Requests as the scheduler sees them, and the rules of a queue."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nanocv_cli.serving.embedded.encoding import Array
from nanocv_cli.serving.embedded.faults import Fault


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
        abandoned: nobody waits for the answer any more.
        layout: the inputs' shapes without rows: only requests of one layout can share a batch.
    """

    inputs: dict[str, Array]
    rows: int
    request_id: str
    timeout_ns: int
    arrives: Any
    arrived: int = 0
    abandoned: bool = False
    layout: tuple[tuple[int, ...], ...] = ()


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
