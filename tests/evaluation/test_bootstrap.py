"""Intervals by the bootstrap: they cover, they agree with the formula, and two models share their draws."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nanocv_cli.evaluation.bootstrap import RESAMPLES, bootstrap, drawn_counts, interval
from nanocv_cli.tasks.evaluator import Evaluator


class Mean(Evaluator):
    """The mean of values that stand for answers."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        self.values = values

    def update(self, *_: object) -> None:
        raise NotImplementedError

    def state(self) -> NDArray[np.float64]:
        return self.values

    def absorb(self, state: NDArray[np.float64]) -> None:
        self.values = np.concatenate([self.values, state])

    def compute(self) -> dict[str, float]:
        return {"mean": float(self.values.mean())}

    def resampled(self, counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        return {"mean": counts @ self.values / counts.sum(1)}


@pytest.mark.parametrize("images", [1, 7, 5000])
def test_each_draw_is_a_split_of_the_same_size(images: int) -> None:
    blocks = list(drawn_counts(images))
    assert sum(map(len, blocks)) == RESAMPLES
    assert all((block.sum(1) == images).all() and block.shape[1] == images for block in blocks)


def test_the_interval_of_a_mean_is_that_of_the_formula() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    found = interval(bootstrap(Mean(values), 400)["mean"])
    assert found is not None
    error = values.std() / np.sqrt(400)
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_two_models_are_drawn_the_same_images() -> None:
    values = np.random.default_rng(1).normal(size=100)
    left, right = (bootstrap(Mean(values + shift), 100)["mean"] for shift in (0.0, 0.001))
    found = interval(right - left)
    assert found is not None and found.low == pytest.approx(0.001) == found.high


def test_what_no_draw_decides_has_no_interval(tmp_path: Path) -> None:
    assert interval(np.full(RESAMPLES, np.nan)) is None
    assert bootstrap(Mean(np.zeros(0)), 0) == {}
