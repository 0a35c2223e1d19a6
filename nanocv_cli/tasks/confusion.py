"""The confusion matrix as an image."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nanocv_cli.files import save_chart
from nanocv_cli.untrusted import in_chart

MOST_NAMED = 100


def draw_confusion(matrix: NDArray[np.int64], classes: tuple[str, ...], path: Path, in_percent: bool = False) -> Path:
    """Draws counts coloured by their share of the row, so that rare classes show as well as common ones.

    Args:
        matrix: counts [classes, classes]; rows are true classes, columns answers.
        classes: class names in label order.
        path: PNG to write.
        in_percent: whether cells show the share of their row, where counts are too large to read.
    """
    count = len(classes)
    side = min(24.0, 2.8 + 0.75 * count)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    if count <= MOST_NAMED:
        names = [in_chart(name) for name in classes]
        axes.set_xticks(range(count), names, rotation=45, ha="right")
        axes.set_yticks(range(count), names)
    axes.set_xlabel("answer")
    axes.set_ylabel("true class")
    right = f"{np.trace(matrix) / max(1, matrix.sum()):.1%}"
    axes.set_title(
        f"{right} right; cells: % of the row" if in_percent else f"{np.trace(matrix)} of {matrix.sum()} right ({right})"
    )
    if count <= 30:
        for row in range(count):
            for column in range(count):
                if shares[row, column] >= (0.005 if in_percent else 1e-12):
                    colour = "white" if shares[row, column] > 0.5 else "black"
                    text = f"{100 * shares[row, column]:.0f}" if in_percent else str(matrix[row, column])
                    axes.text(column, row, text, ha="center", va="center", color=colour)
    return save_chart(figure, path)
