"""What measures a task's answers: figures of a split, and what there is to see of them. No torch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.files import save_chart
from nanocv_cli.tasks.exhibits import Exhibits
from nanocv_cli.untrusted import in_chart

Outputs = Mapping[str, NDArray[Any]]
Metrics = dict[str, Any]

MOST_NAMED = 100


class ImageRows(Protocol):
    """Images uint8 [n,S,S,3] in their order: an array, or what is decoded when it is read as one."""

    def __len__(self) -> int:
        """n."""

    def __getitem__(self, places: Any, /) -> NDArray[np.uint8]:
        """Those at a place, a slice or an array of places."""


@dataclass(frozen=True)
class EvalContext:
    """What an evaluator may use beside the images and labels of a split.

    Attributes:
        train_images: uint8 [n,S,S,3] of the training split, where the task wants it; None: not at hand.
        online: whether to measure what needs a download.
    """

    train_images: ImageRows | None = None
    online: bool = False


class Evaluator(ABC):
    """Collects finished predictions against labels and turns them into the task's standard metrics."""

    @abstractmethod
    def update(self, outputs: Outputs, targets: NDArray[Any], images: NDArray[np.uint8]) -> None:
        """Adds one batch.

        Args:
            outputs: of the whole model, [N,...] each, by the exported graph's names.
            targets: [N,...], as `Task.targets` made them.
            images: uint8 [N,S,S,3].
        """

    @abstractmethod
    def state(self) -> Any:
        """What was collected, for `absorb` in another process: arrays, tensors and plain values, nested at will."""

    @abstractmethod
    def absorb(self, state: Any) -> None:
        """Adds what an evaluator of the images that come next has collected, as if they had been added here.

        Args:
            state: of an evaluator of the same kind.
        """

    @abstractmethod
    def compute(self) -> Metrics:
        """The metrics over all that was added, JSON-ready; `loss`, where there is one, is drawn beside training's."""

    def resampled(self, counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """The metrics of splits that hold each image of this one so many times; none by default.

        Those that depend on the images one by one, or on sums over them; a split that holds each image once has the
        figures of `compute`.

        Args:
            counts: [B,n], n the images that were added, in their order; each row is a split.

        Returns:
            float64 [B] by the names of `compute`; NaN where a split does not decide a figure.
        """
        return {}

    def exhibits(self, images: ImageRows) -> Exhibits:
        """What there is to see of the answers: matrices, curves, the worst mistakes; nothing by default.

        Args:
            images: uint8 [n,S,S,3], what was evaluated, in the order of the updates.
        """
        return Exhibits()

    def draw(self, folder: Path, images: ImageRows) -> list[Path]:
        """Writes the task's images (a confusion matrix, say) as PNG and returns their paths; none by default.

        Args:
            folder: where to.
            images: uint8 [n,S,S,3], what was evaluated, in the order of the updates.
        """
        return []

    def snapshot(self, folder: Path, epoch: int) -> None:
        """Writes what shows how far an epoch of training has come; nothing by default, for curves show it.

        Args:
            folder: of the run.
            epoch: from 1.
        """
        return


def draw_confusion(matrix: NDArray[np.int64], classes: tuple[str, ...], path: Path, in_percent: bool = False) -> Path:
    """Draws counts coloured by their share of the row, so that rare classes show as well as common ones.

    Args:
        matrix: counts [classes, classes]; rows are true classes, columns answers.
        classes: class names in label order.
        path: PNG to write.
        in_percent: whether cells show the share of their row, where counts are too large to read.
    """
    from matplotlib.figure import Figure

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
