"""How far two detectors' answers are apart, whatever the order of boxes that are as good as one another."""

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.tasks.base import Outputs

# Below this a box is noise that a rounding error may add or remove; no reader shows it.
SMALLEST_SCORE = 0.05


def unmatched_distance(expected: Outputs, actual: Outputs) -> float:
    """Largest difference between each box and its nearest partner of the same label on the other side.

    A box is a point of five coordinates (four corners in 0..1 and the score); its distance to another is the largest
    difference of any. Both sides are compared with each other, so a box that one side lacks counts with its score.

    Returns:
        0 for the same boxes in any order; NaN if a value is none.
    """
    worst = 0.0
    for picture in range(len(expected["scores"])):
        left, right = _points(expected, picture), _points(actual, picture)
        if not (np.isfinite(left).all() and np.isfinite(right).all()):
            return float("nan")
        worst = max(worst, _one_way(left, right), _one_way(right, left))
    return worst


def _points(outputs: Outputs, picture: int) -> NDArray[np.float64]:
    """Rows of label, x0, y0, x1, y1, score."""
    columns = [outputs["labels"][picture][:, None], outputs["boxes"][picture], outputs["scores"][picture][:, None]]
    return np.concatenate(columns, 1).astype(np.float64)


def _one_way(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    worst = 0.0
    for point in left[left[:, 5] >= SMALLEST_SCORE]:
        partners = right[right[:, 0] == point[0]]
        apart = np.abs(partners[:, 1:] - point[1:]).max(1, initial=0.0)
        worst = max(worst, min([float(point[5]), *apart.tolist()]))
    return worst
