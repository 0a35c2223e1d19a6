"""Batches are made while the step learns, in their order, no more than two ahead, and the thread always ends."""

import threading
from collections.abc import Generator

import pytest
import torch

from nanocv_cli.training.feed import Batch, fed

CPU = torch.device("cpu")
PATIENCE = 20.0  # seconds, after which what was to happen is taken to have failed


class Source:
    """Numbered batches; tells of each as it is made."""

    def __init__(self, count: int, fails_at: int | None = None) -> None:
        self.made = [threading.Event() for _ in range(count)]
        self.has_ended = False
        self._fails_at = fails_at

    def batches(self) -> Generator[Batch, None, None]:
        try:
            for number, made in enumerate(self.made):
                if number == self._fails_at:
                    raise OSError("the disk is gone")
                made.set()
                yield torch.full((2, 3), number), torch.tensor([number, number])
        finally:
            self.has_ended = True


def feeds() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "feed"]


def test_batches_arrive_in_their_order_and_with_their_values() -> None:
    with fed(Source(9).batches(), CPU) as arriving:
        found = [(images.tolist(), targets.tolist()) for images, targets in arriving]
    assert found == [([[number] * 3] * 2, [number, number]) for number in range(9)]
    assert not feeds()


def test_while_a_step_learns_the_next_two_batches_are_made_and_no_more() -> None:
    source = Source(6)
    with fed(source.batches(), CPU) as arriving:
        for step, _ in enumerate(arriving):
            # This step does not end before the thread has made both: only side by side can this go on.
            for ahead in source.made[step + 1 : step + 3]:
                assert ahead.wait(PATIENCE)
            assert not any(made.is_set() for made in source.made[step + 3 :])


def test_what_the_source_raises_comes_where_its_batch_would_have_come() -> None:
    seen = []
    with pytest.raises(OSError, match="the disk is gone"), fed(Source(5, fails_at=2).batches(), CPU) as arriving:
        for _, targets in arriving:
            seen.append(int(targets[0]))
    assert seen == [0, 1]
    assert not feeds()


@pytest.mark.parametrize("taken", [0, 1])
def test_a_step_that_fails_or_is_stopped_ends_the_thread_and_the_source(taken: int) -> None:
    source = Source(8)
    batches = source.batches()  # held here as the loop holds it: nothing else ends it
    with pytest.raises(KeyboardInterrupt), fed(batches, CPU) as arriving:
        for _ in range(taken):
            next(arriving)
        assert source.made[taken + 1].wait(PATIENCE)  # the thread is waiting for room
        raise KeyboardInterrupt
    assert not feeds()
    assert not source.made[-1].is_set()
    assert source.has_ended
