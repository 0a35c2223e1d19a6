"""How far a metric would move on other images like these: the bootstrap over the images of a split.

B. Efron, R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13: percentile intervals. One seed draws the
same images for every model, so that two models that answered the same split are compared image by image.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the training side imports torch, and whoever compares intervals need not
    from nanocv_cli.tasks.evaluator import Evaluator

RESAMPLES = 1000
CONFIDENCE = 0.95
SEED = 0
# Draws that are worked on at a time: what is counted of each answer of a detector is held for all of them.
BLOCK = 50

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """Where a figure lies, by the bootstrap, with the probability `CONFIDENCE`."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether a value lies within."""
        return self.low <= value <= self.high


def bootstrap(
    evaluator: "Evaluator", images: int, progress: Callable[[int, int], None] | None = None
) -> dict[str, Values]:
    """The metrics of `RESAMPLES` splits that are drawn, with replacement, from the images that were evaluated.

    Args:
        evaluator: filled.
        images: how many it has seen; none gives no figure.
        progress: called with (done, all) draws.

    Returns:
        float64 [RESAMPLES] by metric, of those that the task can tell of parts of a split; NaN where a draw decides
        none.
    """
    blocks = []
    for counts in drawn_counts(images) if images else ():
        blocks.append(evaluator.resampled(counts))
        if progress:
            progress(BLOCK * len(blocks), RESAMPLES)
    return {name: np.concatenate([block[name] for block in blocks]) for name in (blocks[0] if blocks else ())}


def drawn_counts(images: int) -> Iterator[NDArray[np.int64]]:
    """How often each image is in each resampled split: int64 [BLOCK, images] each, `RESAMPLES` rows in all, each
    row's sum being `images`.
    """
    random = np.random.default_rng(SEED)
    for _ in range(RESAMPLES // BLOCK):
        places = random.integers(0, images, (BLOCK, images)) + images * np.arange(BLOCK)[:, None]
        yield np.bincount(places.ravel(), minlength=BLOCK * images).reshape(BLOCK, images)


def interval(values: Values) -> Interval | None:
    """The percentiles that hold `CONFIDENCE` of the values; None where no draw decided any."""
    decided = values[np.isfinite(values)]
    if not decided.size:
        return None
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(decided, [tail, 100.0 - tail])
    return Interval(float(low), float(high))
