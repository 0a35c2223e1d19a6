"""The confusion matrix as a picture."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nanocv_cli.files import atomic_path


def draw_confusion(matrix: NDArray[np.int64], classes: tuple[str, ...], path: Path) -> Path:
    """Draws counts coloured by their share of the row, so that rare classes show as well as common ones.

    Args:
        matrix: counts [classes, classes]; rows are true classes, columns answers.
        classes: class names in label order.
        path: PNG to write.
    """
    count = len(classes)
    side = min(24.0, 2.8 + 0.75 * count)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_xticks(range(count), classes, rotation=45, ha="right")
    axes.set_yticks(range(count), classes)
    axes.set_xlabel("answer")
    axes.set_ylabel("true class")
    axes.set_title(f"{np.trace(matrix)} of {matrix.sum()} right ({np.trace(matrix) / max(1, matrix.sum()):.1%})")
    if count <= 30:
        for row in range(count):
            for column in range(count):
                if matrix[row, column]:
                    colour = "white" if shares[row, column] > 0.5 else "black"
                    axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    return path
