"""Intersection over union, Dice, pixel accuracy and the boundary F-score; the worst images beside their labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from nanocv_cli.data.labels.masks import IGNORED
from nanocv_cli.files import save_chart
from nanocv_cli.images.drawing import BACKGROUND, class_colour, overlay_classes
from nanocv_cli.tasks.evaluator import Evaluator, Metrics, Outputs, draw_confusion
from nanocv_cli.untrusted import in_chart

# A boundary counts as found if one of the same class is this near, as a share of the image's diagonal (Csurka et al.,
# What is a good evaluation measure for semantic segmentation?, BMVC 2013).
BOUNDARY_TOLERANCE = 0.0075
# How many of the worst images are kept and drawn.
SHOWN = 6
OPACITY = 0.6  # of classes over them
COLUMNS = ("image", "labels", "answer")


@dataclass(frozen=True)
class Evaluated:
    """One image's answer beside its labels.

    Attributes:
        number: of the image in its split.
        right: share of its labelled pixels that are right.
        truth: labels uint8 [S,S] with `data.labels.masks.IGNORED`.
        answer: class indices uint8 [S,S].
    """

    number: int
    right: float
    truth: NDArray[np.uint8]
    answer: NDArray[np.uint8]


class SegmentationEvaluator(Evaluator):
    """Collects masks and labels of a split.

    Args:
        classes: class names in label order.

    Attributes:
        worst: the images with the fewest right pixels, worst first; those without a labelled pixel left out.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        count = len(classes)
        self._confusion = torch.zeros((count, count), dtype=torch.int64)
        self._boundaries = torch.zeros((count, 4), dtype=torch.float64)
        self.worst: list[Evaluated] = []
        self._seen = 0

    def update(self, outputs: Outputs, targets: NDArray[np.uint8], images: NDArray[np.uint8]) -> None:
        """Adds `outputs["mask"]` uint8 [N,H,W] with labels uint8 [N,H,W], 255 ignored."""
        answers = torch.from_numpy(np.ascontiguousarray(outputs["mask"])).long()
        truth = torch.from_numpy(np.array(targets)).long()
        count = len(self.classes)
        self._confusion += multiclass_confusion_matrix(answers, truth, count, ignore_index=IGNORED)
        counted = truth != IGNORED
        self._keep_worst(answers, truth, counted)
        for label in range(count):
            self._boundaries[label] += _boundary_counts(answers == label, truth == label, counted)

    def _keep_worst(self, answers: Tensor, truth: Tensor, counted: Tensor) -> None:
        """The masks of few images are kept: those of a whole split would fill the memory."""
        right = ((answers == truth) & counted).sum((1, 2)) / counted.sum((1, 2)).clamp(min=1)
        for row, share in enumerate(right.tolist()):
            if counted[row].any():
                evaluated = Evaluated(self._seen + row, share, truth[row].byte().numpy(), answers[row].byte().numpy())
                self.worst.append(evaluated)
        self.worst = sorted(self.worst, key=lambda evaluated: evaluated.right)[:SHOWN]
        self._seen += len(answers)

    def compute(self) -> Metrics:
        """All metrics, shares in 0..1; what the split does not decide is null.

        Returns:
            `miou` (mean of the classes that the split or the answers hold), `pixel_accuracy`, `dice` and `boundary_f1`
            (means of the classes that the split holds), and per class `iou`, `dice`, `boundary_f1` and `share`.
        """
        confusion = self._confusion.double()
        truth, answers, right = confusion.sum(1), confusion.sum(0), confusion.diagonal()
        union = truth + answers - right
        per_class: dict[str, dict[str, float | None]] = {}
        for label, name in enumerate(self.classes):
            found, real, near_found, near_real = self._boundaries[label].tolist()
            precision, recall = near_found / max(found, 1.0), near_real / max(real, 1.0)
            has = bool(truth[label] > 0)
            per_class[name] = {
                "iou": float(right[label] / union[label]) if union[label] else None,
                "dice": float(2 * right[label] / (truth[label] + answers[label])) if has else None,
                "boundary_f1": 2 * precision * recall / max(precision + recall, 1e-12) if has else None,
                "share": float(truth[label] / truth.sum().clamp(min=1)),
            }
        return {
            "miou": _mean(per_class, "iou") or 0.0,
            "pixel_accuracy": float(right.sum() / truth.sum().clamp(min=1)),
            "dice": _mean(per_class, "dice"),
            "boundary_f1": _mean(per_class, "boundary_f1"),
            "per_class": per_class,
        }

    def draw(self, folder: Path, images: NDArray[np.uint8]) -> list[Path]:
        """Writes `confusion.png`, shares of each true class's pixels, and `overlays.png`, the worst images."""

        drawn = [draw_confusion(self._confusion.numpy(), self.classes, folder / "confusion.png", in_percent=True)]
        if self.worst:
            drawn.append(draw_overlays(self.worst, images, self.classes, folder / "overlays.png"))
        return drawn


def _mean(rows: dict[str, dict[str, float | None]], key: str) -> float | None:
    found = [value for row in rows.values() if (value := row[key]) is not None]
    return sum(found) / len(found) if found else None


def _boundary_counts(answer: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """Boundary pixels answered, true, answered near a true one, true near an answered one; float64 [4]."""
    height, width = truth.shape[1:]
    reach = max(1, round(BOUNDARY_TOLERANCE * float(np.hypot(height, width))))
    found, real = (_edges(mask) & counted for mask in (answer, truth))
    near_real, near_found = (_grown(edges, reach) for edges in (real, found))
    figures = [found.sum(), real.sum(), (found & near_real).sum(), (real & near_found).sum()]
    return torch.stack(figures).double()


def _edges(mask: Tensor) -> Tensor:
    """Pixels of a mask bool [N,H,W] beside one that is not of it."""
    inside = -F.max_pool2d(-mask.float().unsqueeze(1), 3, 1, 1).squeeze(1)
    return mask & (inside < 0.5)


def _grown(edges: Tensor, reach: int) -> Tensor:
    grown: Any = F.max_pool2d(edges.float().unsqueeze(1), 2 * reach + 1, 1, reach).squeeze(1) > 0.5
    return torch.as_tensor(grown)


def draw_overlays(
    evaluated: Sequence[Evaluated], images: NDArray[np.uint8], classes: tuple[str, ...], path: Path
) -> Path:
    """Draws images, their labels and their answers side by side, two images to a row.

    Args:
        evaluated: the images, at least one.
        images: uint8 [n,S,S,3] of the split.
        classes: class names in label order; a class `background` stays clear.
        path: PNG to write.
    """
    rows = -(-len(evaluated) // 2)
    figure = Figure(figsize=(2.3 * 6, 2.45 * rows + 0.7), layout="constrained")
    grid = figure.subplots(rows, 6, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    for place, entry in enumerate(evaluated):
        own = grid[place // 2, 3 * (place % 2) : 3 * (place % 2) + 3]
        image = images[entry.number]
        titles = (*COLUMNS[:2], f"{COLUMNS[2]}: {entry.right:.0%} right")
        masks = (overlay_classes(image, mask, classes, OPACITY, OPACITY) for mask in (entry.truth, entry.answer))
        for axes, title, panel in zip(own, titles, (image, *masks), strict=True):
            axes.imshow(panel)
            axes.set_title(title, fontsize=9)
    present = {int(label) for entry in evaluated for mask in (entry.truth, entry.answer) for label in np.unique(mask)}
    handles = [
        Patch(color=f"#{bytes(class_colour(label)).hex()}", label=in_chart(name))
        for label, name in enumerate(classes)
        if label in present and name != BACKGROUND
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(8, len(handles)), fontsize=9)
    return save_chart(figure, path, dpi=110)
