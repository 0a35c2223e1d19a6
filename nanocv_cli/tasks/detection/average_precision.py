"""COCO's average precision of splits that hold images more than once, or not at all: what the bootstrap draws.

Answers are matched with objects once, image by image; a drawn split only weighs the matches. No torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.data.labels.boxes import IGNORED, LABEL
from nanocv_cli.tasks.detection.boxes import intersection, overlaps

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST_ANSWERS = 100  # of an image and class
TINIEST = float(np.spacing(1.0))  # keeps a precision of nothing from being 0/0, as COCO's code does

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Matches:
    """The answers of one class in one image against its objects, at each of `THRESHOLDS`.

    Attributes:
        scores: float [n], highest first.
        right: bool [10,n], which found an object.
        wrong: bool [10,n], which found none; what found an ignored object, or is no box, is neither.
        objects: that are there to be found.
    """

    scores: Floats
    right: Flags
    wrong: Flags
    objects: int


def match_image(boxes: Floats, scores: Floats, labels: NDArray[np.int64], rows: Floats, classes: int) -> list[Matches]:
    """The matches of each class.

    Args:
        boxes: float [K,4] xyxy in 0..1.
        scores: float [K]; 0: no box.
        labels: int [K].
        rows: float [M,6] as in `data/labels/boxes.py`; ignored objects count as COCO's crowds.
        classes: how many there are.
    """
    there = np.flatnonzero(scores > 0.0)
    objects = rows[rows[:, LABEL] >= 0]
    return [
        _match(boxes[own], scores[own], objects[objects[:, LABEL] == label])
        for label in range(classes)
        for own in (there[labels[there] == label],)
    ]


def _match(boxes: Floats, scores: Floats, objects: Floats) -> Matches:
    order = np.argsort(-scores, kind="stable")[:MOST_ANSWERS]
    boxes, scores = boxes[order], scores[order]
    objects = objects[np.argsort(objects[:, IGNORED], kind="stable")]
    ignored = objects[:, IGNORED] > 0
    apart = np.stack([_overlap(box, objects[:, :4], ignored) for box in boxes]) if len(boxes) else np.zeros((0, 0))
    found = np.full((len(THRESHOLDS), len(boxes)), -1)
    for row, threshold in enumerate(THRESHOLDS if len(objects) else ()):
        free = np.ones(len(objects), bool)
        for place in range(len(boxes)):
            candidates = np.flatnonzero((apart[place] >= min(threshold, 1 - 1e-10)) & (free | ignored))
            # An object that counts comes before any that is ignored; of equals the last, as COCO's code takes it.
            candidates = candidates[~ignored[candidates]] if (~ignored[candidates]).any() else candidates
            if candidates.size:
                best = candidates[len(candidates) - 1 - apart[place][candidates][::-1].argmax()]
                found[row, place], free[best] = best, False
    is_ignored = np.where(found >= 0, ignored[found] if len(objects) else False, False)
    is_box = (boxes[:, 2:] - boxes[:, :2]).prod(1) >= 0.0  # COCO's code passes over one that is inside out
    return Matches(scores, (found >= 0) & ~is_ignored, (found < 0) & is_box, int((~ignored).sum()))


def _overlap(box: Floats, objects: Floats, ignored: Flags) -> Floats:
    """Intersection over union; with a crowd, over the area of the box alone."""
    area = max(float((box[2:] - box[:2]).prod()), 1e-12)
    found: Floats = np.where(ignored, intersection(box, objects) / area, overlaps(box, objects))
    return found


def resampled_precision(matches: Sequence[Sequence[Matches]], counts: NDArray[np.int64]) -> dict[str, Floats]:
    """`map`, `map50`, `map75` and `recall` of drawn splits.

    Args:
        matches: by image, then by class.
        counts: [B,n], how often each image is in each split.

    Returns:
        float64 [B] by name; NaN for a split without an object.
    """
    precisions, recalls = (
        np.stack(parts, -1)
        for parts in zip(*(_of_class(own, counts) for own in zip(*matches, strict=True)), strict=True)
    )
    with np.errstate(invalid="ignore"):
        decided = np.isfinite(recalls[:, 0])  # [B, classes]
        count = decided.sum(1)
        return {
            "map": np.nansum(precisions, (1, 2)) / (count * len(THRESHOLDS)),
            "map50": np.nansum(precisions[:, 0], 1) / count,
            "map75": np.nansum(precisions[:, 5], 1) / count,
            "recall": np.nansum(recalls, (1, 2)) / (count * len(THRESHOLDS)),
        }


def _of_class(matches: Sequence[Matches], counts: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Average precision and highest recall [B,10] of one class; NaN where a split has no object of it."""
    scores = np.concatenate([one.scores for one in matches])
    order = np.argsort(-scores, kind="stable")
    images = np.repeat(np.arange(len(matches)), [len(one.scores) for one in matches])[order]
    right, wrong = (
        np.concatenate(parts, 1)[:, order] for parts in zip(*((one.right, one.wrong) for one in matches), strict=True)
    )
    objects = (counts @ np.array([one.objects for one in matches])).astype(np.float64)
    objects[objects == 0] = np.nan
    weights = counts[:, images]
    precision, recall = np.zeros((len(counts), len(THRESHOLDS))), np.zeros((len(counts), len(THRESHOLDS)))
    for row in range(len(THRESHOLDS)):
        hits, misses = (np.cumsum(weights * flags[row], 1) for flags in (right, wrong))
        reached = hits / objects[:, None]
        exact = hits / (hits + misses + TINIEST)
        # Precision at a recall is the best at this recall or any higher one.
        exact = np.maximum.accumulate(exact[:, ::-1], 1)[:, ::-1]
        for draw in range(len(counts)):
            places = np.searchsorted(reached[draw], RECALLS)
            precision[draw, row] = exact[draw, places[places < exact.shape[1]]].sum() / len(RECALLS)
        recall[:, row] = reached[:, -1] if reached.shape[1] else 0.0
    undecided = np.isnan(objects)
    precision[undecided], recall[undecided] = np.nan, np.nan
    return precision, recall
