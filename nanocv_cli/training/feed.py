"""Batches brought to the device ahead of the step that learns from them.

One thread takes batches from their source, whatever that does (gathers rows of the cache, reads files), and copies them
through pinned memory on a stream of its own. The step waits on the device, not in this process, and only for a copy
that has not ended yet. Order and values are those of the source.
"""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

# One more is in the thread's own hands.
WAITING = 1
# Steps that a GPU may have before it: enough that it never waits, few enough that their batches do not fill its memory.
STEPS_AHEAD = 4
# How long the thread may be at work on a batch that nobody wants any more before it is looked for again.
POLL_SECONDS = 0.05

# Held by who takes memory for a GPU outside of the step: nobody may while a step's launches are captured.
ALLOCATING = threading.Lock()

Batch: TypeAlias = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class _Brought:
    """A batch on its way.

    Attributes:
        batch: on the device; not to be read before `copied`.
        copied: when it has arrived there; None: it is there.
    """

    batch: Batch
    copied: torch.cuda.Event | None


@dataclass(frozen=True)
class _Ended:
    """The source has no more batches, or failed."""

    error: BaseException | None = None


@contextmanager
def fed(
    source: Generator[Batch, None, None], device: torch.device, targets_on_cpu: bool = False
) -> Iterator[Iterator[Batch]]:
    """A source's batches, up to two of them made ahead of who takes them; thread and source end with the block.

    Args:
        source: (images [N,...], targets [N,...]) on the CPU; it is run in the thread.
        device: where a GPU by CUDA is to have them; on other devices the step copies for itself.
        targets_on_cpu: targets stay where they are.

    Yields:
        the batches, in their order. What the source raises is raised where its batch would have come.
    """
    feed = _Feed(source, device, targets_on_cpu)
    feed.start()
    try:
        yield feed.batches()
    finally:
        feed.end()


class _Feed:
    def __init__(self, source: Generator[Batch, None, None], device: torch.device, targets_on_cpu: bool) -> None:
        self._source = source
        # Which of several GPUs is the current one is known to this thread alone.
        self._gpu: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._gpu = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._targets_on_cpu = targets_on_cpu
        self._ready: queue.Queue[_Brought | _Ended] = queue.Queue(WAITING)
        self._unwanted = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Ends the thread, which may be waiting for room, and then the source with what it works by."""
        self._unwanted.set()
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                self._ready.get_nowait()
            self._thread.join(POLL_SECONDS)
        self._source.close()

    def batches(self) -> Iterator[Batch]:
        """What has arrived, batch by batch."""
        learnt: deque[torch.cuda.Event] = deque()
        while isinstance(item := self._ready.get(), _Brought):
            if item.copied:
                if len(learnt) == STEPS_AHEAD:
                    learnt.popleft().synchronize()
                step = torch.cuda.current_stream(item.batch[0].device)
                step.wait_event(item.copied)
                for tensor in item.batch:
                    if tensor.is_cuda:
                        # Taken on the other stream, this memory would be given away while the step still reads it.
                        tensor.record_stream(step)
            yield item.batch
            if item.copied:
                learnt.append(step.record_event())
        if item.error:
            raise item.error

    def _run(self) -> None:
        try:
            while not self._unwanted.is_set():
                with ALLOCATING if self._gpu else contextlib.nullcontext():
                    batch = next(self._source, None)
                    item = _Ended() if batch is None else self._brought(batch)
                self._ready.put(item)
                if batch is None:
                    return
        except BaseException as error:
            self._ready.put(_Ended(error))

    def _brought(self, batch: Batch) -> _Brought:
        if self._gpu is None:
            return _Brought(batch, None)
        images, targets = batch
        with torch.cuda.stream(self._gpu):
            images = (images if images.is_pinned() else images.pin_memory()).to(self._gpu.device, non_blocking=True)
            if not self._targets_on_cpu:
                targets = targets.pin_memory().to(self._gpu.device, non_blocking=True)
            return _Brought((images, targets), self._gpu.record_event())
