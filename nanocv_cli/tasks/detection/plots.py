"""Precision over recall, class by class, and the images a detector fails on most."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image, ImageColor

from nanocv_cli.data.labels.boxes import LABEL
from nanocv_cli.files import save_chart
from nanocv_cli.images.drawing import Frame, draw_frames
from nanocv_cli.untrusted import in_chart

if TYPE_CHECKING:
    from nanocv_cli.tasks.detection.metrics import Curves, Evaluated
    from nanocv_cli.tasks.evaluator import ImageRows

IOU_50, IOU_75 = 0, 5
MOST_CLASSES = 20

SHOWN = 8
COLUMNS = 4
RIGHT, WRONG, MISSED = "#35d07f", "#ff4d4d", "#ffd166"
READABLE = 480  # pixels, from which on names on an image can be read
COLOURS = (("found", RIGHT), ("wrong", WRONG), ("missed", MISSED))


def draw_precision_recall(curves: "Curves", classes: tuple[str, ...], path: Path) -> Path:
    """Draws one curve per class at IoU 0.5, solid, and at 0.75, dotted.

    Args:
        curves: of the split.
        classes: class names in label order; of more than twenty only the mean is drawn.
        path: PNG to write.
    """
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.add_subplot()
    recalls = np.linspace(0.0, 1.0, 101)
    shown = [label for label in range(len(classes)) if curves.precision[IOU_50, 0, label, 0] > -1]
    for place, label in enumerate(shown if len(shown) <= MOST_CLASSES else []):
        colour = f"C{place % 10}"
        for row, style, width in ((IOU_50, "-", 1.8), (IOU_75, ":", 1.3)):
            precision = curves.precision[row, :, label, 0]
            name = f"{in_chart(classes[label])}  AP50 {precision.mean():.3f}" if row == IOU_50 else None
            axes.plot(recalls, precision, style, color=colour, linewidth=width, label=name)
    if shown:
        mean = curves.precision[IOU_50][:, shown, 0].mean(1)
        axes.plot(recalls, mean, color="k", linewidth=2.4, alpha=0.6, label=f"mean  AP50 {mean.mean():.3f}")
        axes.plot([], [], "k:", label="at IoU 0.75")
        axes.legend(loc="lower left", fontsize=9)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.03), title="detections at IoU 0.5")
    axes.grid(alpha=0.3)
    return save_chart(figure, path)


def worst(evaluated: Sequence["Evaluated"]) -> list["Evaluated"]:
    """The images with the costliest mistakes, the costliest first."""
    return sorted((entry for entry in evaluated if entry.cost > 0), key=lambda entry: entry.cost, reverse=True)[:SHOWN]


def drawn_mistakes(entry: "Evaluated", image: NDArray[np.uint8], classes: tuple[str, ...]) -> NDArray[np.uint8]:
    """An image uint8 [S,S,3] with its answers and what none of them found, in `COLOURS`: a copy, enlarged to
    `READABLE` pixels where it is smaller.
    """
    side = max(READABLE, len(image))
    missed = [
        Frame(tuple(row[:4] * side), classes[int(row[LABEL])], ImageColor.getrgb(MISSED)[:3]) for row in entry.missed
    ]
    answers = [
        Frame(tuple(box * side), f"{classes[label]} {score:.2f}", ImageColor.getrgb(RIGHT if is_right else WRONG)[:3])
        for box, score, label, is_right in zip(entry.boxes, entry.scores, entry.labels, entry.right, strict=True)
    ]
    canvas = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
    draw_frames(canvas, [*missed, *answers])
    return np.asarray(canvas)


def draw_mistakes(
    evaluated: Sequence["Evaluated"], images: "ImageRows", classes: tuple[str, ...], path: Path
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
    shown = worst(evaluated)
    if not shown:
        return None
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3.4 * columns, 3.6 * rows + 0.5), layout="constrained")
    for axes, entry in zip(np.atleast_1d(figure.subplots(rows, columns)).ravel(), shown, strict=False):
        axes.imshow(images[entry.number])
        side = len(images[entry.number])
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
