"""The figures of a load test; docs/bench.md defines each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STABLE_WINDOWS = 3
STABLE_WITHIN = 0.10


@dataclass(frozen=True)
class Window:
    """What was answered during one stretch of time.

    Attributes:
        seconds: its length.
        latencies: int64 [n], nanoseconds, of the requests answered without error.
        errors: requests answered with an error.
        rows: images per request.
    """

    seconds: float
    latencies: NDArray[np.int64]
    errors: int
    rows: int

    @property
    def throughput(self) -> float:
        """Inferences (images) per second, answered without error."""
        return len(self.latencies) * self.rows / self.seconds

    def percentile(self, share: float) -> float:
        """The latency, in microseconds, that `share` of the requests did not exceed; NaN where there are none."""
        return nearest_rank(self.latencies, share) / 1e3

    @property
    def mean(self) -> float:
        """Mean latency in microseconds; NaN where there are none."""
        return float(self.latencies.mean()) / 1e3 if len(self.latencies) else math.nan


def nearest_rank(values: NDArray[np.int64], share: float) -> float:
    """The smallest value that at least `share` (0..1] of all values do not exceed; always a value that occurred."""
    if not len(values):
        return math.nan
    # Rounded first: 0.07 * 100 is a little more than 7 in binary, and its ceiling would be 8.
    rank = max(1, math.ceil(round(share * len(values), 9)))
    return float(np.partition(values, rank - 1)[rank - 1])


def merged(windows: Sequence[Window]) -> Window:
    """All windows as one."""
    return Window(
        sum(window.seconds for window in windows),
        np.concatenate([window.latencies for window in windows]),
        sum(window.errors for window in windows),
        windows[0].rows,
    )


def stable(windows: Sequence[Window]) -> bool:
    """Whether the last three windows agree: p99 and throughput of each within 10 % of the three's mean."""
    last = windows[-STABLE_WINDOWS:]
    if len(last) < STABLE_WINDOWS:
        return False
    return all(
        _agree(figures) for figures in ([window.percentile(0.99) for window in last], [w.throughput for w in last])
    )


def _agree(figures: Sequence[float]) -> bool:
    middle = sum(figures) / len(figures)
    return middle > 0 and all(abs(figure - middle) <= STABLE_WITHIN * middle for figure in figures)
