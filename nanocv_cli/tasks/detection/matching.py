"""Answers matched with the objects of an image, and with another model's answers to it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.data.labels.boxes import IGNORED, LABEL
from nanocv_cli.tasks.base import Outputs
from nanocv_cli.tasks.detection.boxes import overlaps

# Answers below this score are not held against the objects; a match overlaps by so much.
CONFIDENT = 0.3
OVERLAP = 0.5

# Below this a box is noise that a rounding error may add or remove; no reader shows it.
SMALLEST_SCORE = 0.05
# Scores as close as this are equal: which of two such boxes suppresses the other, or which of them is the last of the
# answered ones, is a matter of rounding.
EQUAL_SCORES = 1e-3
RIVALS_OVERLAP = 0.4

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Evaluated:
    """One image's answers against its objects.

    Attributes:
        number: of the image in its split.
        boxes: float [n,4] of confident answers, surest first, in 0..1.
        scores: of them.
        labels: of them.
        right: which of them found an object of their class.
        missed: objects float [m,6] that none found.
    """

    number: int
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    right: NDArray[np.bool_]
    missed: NDArray[np.float64]

    @property
    def cost(self) -> float:
        """Objects missed, and the scores of wrong answers."""
        return float(len(self.missed) + self.scores[~self.right].sum())


def evaluate_image(
    number: int,
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    rows: NDArray[np.float64],
) -> Evaluated:
    """Gives each answer, surest first, the object of its class that it overlaps most and that is still free (IoU 0.5).

    Args:
        number: of the image.
        boxes: float [K,4] xyxy in 0..1.
        scores: float [K].
        labels: int [K].
        rows: float [M,6] as in `data/labels/boxes.py`; answers on ignored objects count as right.
    """
    places = np.flatnonzero(scores >= CONFIDENT)
    places = places[np.argsort(-scores[places], kind="stable")]
    objects = rows[rows[:, LABEL] >= 0]
    free = np.ones(len(objects), bool)
    right = np.zeros(len(places), bool)
    for order, place in enumerate(places):
        overlap = overlaps(boxes[place], objects[:, :4]) * (objects[:, LABEL] == labels[place])
        ignored = objects[:, IGNORED] > 0
        overlap = np.where(free | ignored, overlap, 0.0)
        best = int(overlap.argmax()) if len(objects) else -1
        if best >= 0 and overlap[best] >= OVERLAP:
            right[order], free[best] = True, False
    missed = objects[free & (objects[:, IGNORED] == 0)]
    return Evaluated(number, boxes[places], scores[places], labels[places], right, missed)


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
