"""How far two detectors' answers are apart, whatever the order of boxes that are as good as one another."""

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.tasks.base import Outputs
from nanocv_cli.tasks.detection.boxes import overlaps

# Below this a box is noise that a rounding error may add or remove; no reader shows it.
SMALLEST_SCORE = 0.05
# Scores as close as this are equal: which of two such boxes suppresses the other, or which of them is the last of the
# answered ones, is a matter of rounding.
EQUAL_SCORES = 1e-3
RIVALS_OVERLAP = 0.4

Points = NDArray[np.float64]


def unmatched_distance(expected: Outputs, actual: Outputs) -> float:
    """Largest difference between each box and its nearest partner of the same label on the other side.

    A box is a point of five coordinates (four corners in 0..1 and the score); its distance to another is the largest
    difference of any. Both sides are compared with each other, so a box that one side lacks counts with its score, but
    for one that lost against a rival of an equal score.

    Returns:
        0 for the same boxes in any order; NaN if a value is none.
    """
    worst = 0.0
    for image in range(len(expected["scores"])):
        left, right = _points(expected, image), _points(actual, image)
        if not (np.isfinite(left).all() and np.isfinite(right).all()):
            return float("nan")
        worst = max(worst, _one_way(left, right), _one_way(right, left))
    return worst


def _points(outputs: Outputs, image: int) -> Points:
    """Rows of label, x0, y0, x1, y1, score."""
    columns = [outputs["labels"][image][:, None], outputs["boxes"][image], outputs["scores"][image][:, None]]
    return np.concatenate(columns, 1).astype(np.float64)


def _one_way(left: Points, right: Points) -> float:
    worst, lowest = 0.0, float(right[:, 5].min(initial=1.0))
    for point in left[left[:, 5] >= SMALLEST_SCORE]:
        partners = right[right[:, 0] == point[0]]
        apart = np.abs(partners[:, 1:] - point[1:]).max(1, initial=0.0)
        nearest = min([float(point[5]), *apart.tolist()])
        if nearest <= worst or _lost_to_a_rival(point, partners) or point[5] <= lowest + EQUAL_SCORES:
            continue
        worst = nearest
    return worst


def _lost_to_a_rival(point: Points, partners: Points) -> bool:
    rivals = partners[np.abs(partners[:, 5] - point[5]) <= EQUAL_SCORES]
    return bool((overlaps(point[1:5], rivals[:, 1:5]) >= RIVALS_OVERLAP).any())
