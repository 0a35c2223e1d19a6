"""Percentiles, windows, stability."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanocv_cli.bench.statistics import Window, merged, nearest_rank, stable

LATENCIES = st.lists(st.integers(1, 10**10), min_size=1, max_size=300)


def window(throughput: float = 100.0, p99_us: float = 1000.0) -> Window:
    """A second in which every request took the same time."""
    return Window(1.0, np.full(round(throughput), p99_us * 1000, np.int64), 0, 1)


@given(LATENCIES, st.integers(1, 100))
def test_percentiles_are_the_inverted_distribution(values: list[int], percent: int) -> None:
    array = np.array(values, np.int64)
    assert nearest_rank(array, percent / 100) == np.percentile(array, percent, method="inverted_cdf")


@given(LATENCIES)
def test_percentiles_are_ordered_and_occurred(values: list[int]) -> None:
    array = np.array(values, np.int64)
    found = [nearest_rank(array, share) for share in (0.5, 0.9, 0.95, 0.99, 1.0)]
    assert found == sorted(found)
    assert set(found) <= set(values)
    assert found[-1] == max(values)


def test_no_answers_have_no_percentile() -> None:
    assert math.isnan(nearest_rank(np.array([], np.int64), 0.99))


def test_throughput_counts_images_answered_well() -> None:
    one = Window(2.0, np.array([1000, 3000], np.int64), errors=5, rows=4)
    assert one.throughput == 4.0
    assert one.mean == 2.0
    assert merged([one, one]).throughput == 4.0
    assert merged([one, one]).errors == 10


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ([window()] * 2, False),
        ([window()] * 3, True),
        ([window(10), window(), window(), window()], True),
        ([window(), window(), window(130)], False),
        ([window(), window(), window(p99_us=1300)], False),
        ([window(100), window(105), window(110)], True),
        ([Window(1.0, np.array([], np.int64), 3, 1)] * 3, False),
    ],
)
def test_three_windows_must_agree(windows: list[Window], expected: bool) -> None:
    assert stable(windows) is expected
