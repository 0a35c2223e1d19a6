"""The images a detector fails on most: objects it missed and confident boxes where nothing is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from nanocv_cli.charts import in_chart, save_chart
from nanocv_cli.data.labels.boxes import IGNORED, LABEL
from nanocv_cli.tasks.detection.boxes import overlaps

CONFIDENT = 0.3
OVERLAP = 0.5
SHOWN = 8
COLUMNS = 4
RIGHT, WRONG, MISSED = "#35d07f", "#ff4d4d", "#ffd166"


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


def draw_mistakes(
    evaluated: Sequence[Evaluated], images: NDArray[np.uint8], classes: tuple[str, ...], path: Path
) -> Path | None:
    """Draws the images with the costliest mistakes.

    Args:
        evaluated: one for each image of the split.
        images: uint8 [n,S,S,3] of the split.
        classes: class names in label order.
        path: PNG to write.

    Returns:
        the path; None if there is no mistake.
    """
    worst = sorted((entry for entry in evaluated if entry.cost > 0), key=lambda entry: entry.cost, reverse=True)[:SHOWN]
    if not worst:
        return None
    columns = min(COLUMNS, len(worst))
    rows = -(-len(worst) // columns)
    figure = Figure(figsize=(3.4 * columns, 3.6 * rows + 0.5), layout="constrained")
    for axes, entry in zip(np.atleast_1d(figure.subplots(rows, columns)).ravel(), worst, strict=False):
        axes.imshow(images[entry.number])
        side = images.shape[1]
        for box, score, label, is_right in zip(entry.boxes, entry.scores, entry.labels, entry.right, strict=True):
            text = "" if is_right else f"{in_chart(classes[label])} {score:.2f}"
            _frame(axes, box * side, RIGHT if is_right else WRONG, "-", text)
        for row in entry.missed:
            _frame(axes, row[:4] * side, MISSED, "--", f"{in_chart(classes[int(row[LABEL])])}?", below=True)
        wrong = int((~entry.right).sum())
        axes.set_title(f"{len(entry.missed)} missed, {wrong} wrong", fontsize=9)
    for axes in figure.axes:
        axes.axis("off")
    handles = [Rectangle((0, 0), 1, 1, fill=False, color=colour, linestyle=style, linewidth=2)
               for colour, style in ((RIGHT, "-"), (WRONG, "-"), (MISSED, "--"))]  # fmt: skip
    figure.legend(handles, ("found", "wrong", "missed"), loc="outside lower center", ncols=3, fontsize=9)
    return save_chart(figure, path, dpi=110)


def _frame(axes: object, box: NDArray[np.float64], colour: str, style: str, text: str, below: bool = False) -> None:
    x0, y0, x1, y1 = box
    axes.add_patch(  # type: ignore[attr-defined]
        Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linestyle=style, linewidth=1.6)
    )
    if text:
        # Below the box where another may have its text above it.
        place = (x0, y1 + 2, "top") if below else (x0, max(8.0, y0 - 2), "bottom")
        axes.text(*place[:2], text, fontsize=7, color="black", va=place[2],  # type: ignore[attr-defined]
                  bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.0}, clip_on=True)  # fmt: skip
