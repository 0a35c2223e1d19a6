"""Boxes compared: how far they overlap, and which of several tiles' boxes stand for one object. No torch."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.engine.tiles import TileAnswer

Floats = NDArray[np.float64]

# Of two boxes of a class the surer one stays from this intersection over union on, as within a graph.
SAME_OBJECT = 0.6
# A box that ends as near to a tile's edge as this, as a share of the tile's side, may go on beyond it.
CUT = 0.01


def intersection(box: Floats, others: Floats) -> Floats:
    """The area [n] that a box [4] (x0, y0, x1, y1) shares with each of others [n,4], in the square of their unit."""
    corner, opposite = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared: Floats = (opposite - corner).clip(0.0).prod(1)
    return shared


def overlaps(box: Floats, others: Floats) -> Floats:
    """Intersection over union [n] of a box [4] with each of others [n,4], 0..1."""
    shared = intersection(box, others)
    areas = (others[:, 2:] - others[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    found: Floats = shared / np.maximum(areas - shared, 1e-12)
    return found


def join_tiles(
    answers: Iterable[TileAnswer], size: tuple[int, int], thresholds: Floats
) -> dict[str, NDArray[np.generic]]:
    """The objects of an image from the answers for its tiles.

    An object that several tiles see is answered once: whole boxes come before those that a tile's inner edge cuts, and
    surer ones before others; a whole box gives way to one of its class from another tile by intersection over union,
    a cut one where most of it is covered. An object that no tile sees as a whole stays in parts.

    Args:
        answers: `boxes` [1,K,4] xyxy in 0..1 of the tile, `scores` [1,K], `labels` [1,K] for each tile.
        size: width and height of the image, pixels.
        thresholds: the lowest score of each class that is shown.

    Returns:
        `boxes` float64 [1,M,4] xyxy in 0..1 of the image, `scores` float64 [1,M], `labels` int64 [1,M].
    """
    width, height = size
    whole = np.array([width, height, width, height], np.float64)
    parts: list[tuple[Floats, Floats, NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]] = []
    for number, answer in enumerate(answers):
        boxes, scores, labels = (answer.outputs[name][0] for name in ("boxes", "scores", "labels"))
        known = (scores > 0.0) & (labels >= 0) & (labels < len(thresholds))
        shown = known & (scores >= thresholds[np.where(known, labels, 0)])
        boxes, scores, labels = boxes[shown].astype(np.float64).clip(0.0, 1.0), scores[shown], labels[shown]
        down, across = answer.tile.down, answer.tile.across
        cut = (
            ((boxes[:, 0] < CUT) & (across.start > 0))
            | ((boxes[:, 2] > 1.0 - CUT) & (across.stop < width))
            | ((boxes[:, 1] < CUT) & (down.start > 0))
            | ((boxes[:, 3] > 1.0 - CUT) & (down.stop < height))
        )
        sides = np.array([across.stop - across.start, down.stop - down.start] * 2, np.float64)
        placed = boxes * sides + np.array([across.start, down.start] * 2, np.float64)
        parts.append((placed, scores.astype(np.float64), labels.astype(np.int64), cut, np.full(len(boxes), number)))
    boxes, scores, labels, cut, tiles = (np.concatenate(column) for column in zip(*parts, strict=True))
    kept: list[int] = []
    for place in np.lexsort((-scores, cut)):
        rivals = [other for other in kept if labels[other] == labels[place] and tiles[other] != tiles[place]]
        if not rivals or not _is_same(boxes[place], bool(cut[place]), boxes[rivals]):
            kept.append(int(place))
    return {"boxes": (boxes[kept] / whole)[None], "scores": scores[kept][None], "labels": labels[kept][None]}


def _is_same(box: Floats, is_cut: bool, others: Floats) -> bool:
    """Whether one of others stands for the object of a box."""
    if not is_cut:
        return bool((overlaps(box, others) > SAME_OBJECT).any())
    area = max(float((box[2:] - box[:2]).prod()), 1e-12)
    return bool((intersection(box, others) / area > SAME_OBJECT).any())
