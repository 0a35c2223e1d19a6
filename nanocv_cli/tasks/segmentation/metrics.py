"""Intersection over union, Dice, pixel accuracy and the boundary F-score; the worst images beside their labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from nanocv_cli.data.labels.masks import IGNORED
from nanocv_cli.files import save_chart
from nanocv_cli.images.drawing import BACKGROUND, class_colour, overlay_classes
from nanocv_cli.tasks.evaluator import Evaluator, ImageRows, Metrics, Outputs, draw_confusion
from nanocv_cli.tasks.exhibits import Captioned, Exhibits, Gallery, Matrix, side_by_side
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
        self._confusion = np.zeros((count, count), np.int64)
        self._counts: list[NDArray[np.int64]] = []
        self.worst: list[Evaluated] = []
        self._seen = 0

    def update(self, outputs: Outputs, targets: NDArray[np.uint8], images: NDArray[np.uint8]) -> None:
        """Adds `outputs["mask"]` uint8 [N,H,W] with labels uint8 [N,H,W], 255 ignored."""
        answers, truth = np.asarray(outputs["mask"]), np.asarray(targets)
        confusions = _confusions(answers, truth, len(self.classes))
        self._confusion += confusions.sum(0)
        self._keep_worst(answers, truth, confusions)
        overlaps = [np.diagonal(confusions, axis1=1, axis2=2), confusions.sum(2), confusions.sum(1)]
        self._counts.append(np.stack([*overlaps, *_boundary_counts(answers, truth, len(self.classes))], 2))

    def state(self) -> Any:
        return self._confusion, self._counts, self.worst, self._seen

    def absorb(self, state: Any) -> None:
        confusion, counts, worst, seen = state
        self._confusion += confusion
        self._counts += counts
        self._keep([replace(evaluated, number=self._seen + evaluated.number) for evaluated in worst])
        self._seen += seen

    def _keep_worst(self, answers: NDArray[np.uint8], truth: NDArray[np.uint8], confusions: NDArray[np.int64]) -> None:
        """The masks of few images are kept: those of a whole split would fill the memory."""
        right, counted = confusions.trace(axis1=1, axis2=2), confusions.sum((1, 2))
        shares = (right.astype(np.float32) / np.maximum(counted, 1).astype(np.float32)).tolist()
        # Only these few are copied, out of arrays that the next batch may be written to.
        self._keep([
            Evaluated(self._seen + row, shares[row], truth[row].copy(), answers[row].copy())
            for row in sorted(np.flatnonzero(counted).tolist(), key=shares.__getitem__)[:SHOWN]
        ])  # fmt: skip
        self._seen += len(answers)

    def _keep(self, evaluated: list[Evaluated]) -> None:
        self.worst = sorted([*self.worst, *evaluated], key=lambda one: one.right)[:SHOWN]

    def compute(self) -> Metrics:
        """All metrics, shares in 0..1; what the split does not decide is null.

        Returns:
            `miou` (mean of the classes that the split or the answers hold), `pixel_accuracy`, `dice` and `boundary_f1`
            (means of the classes that the split holds), and per class `iou`, `dice`, `boundary_f1` and `share`.
        """
        counts = np.concatenate(self._counts).sum(0, keepdims=True)
        figures = {name: values[0].tolist() for name, values in _figures(counts).items()}
        per_class = {
            label: {
                **{name: _defined(figures[name][place]) for name in ("iou", "dice", "boundary_f1")},
                "share": figures["share"][place],
            }
            for place, label in enumerate(self.classes)
        }
        single = {name: _defined(value[0]) for name, value in _means(counts).items()}
        return {**single, "miou": single["miou"] or 0.0, "per_class": per_class}

    def resampled(self, counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """All single figures; see `Evaluator`."""
        own = np.concatenate(self._counts)
        summed = counts @ own.reshape(len(own), -1)
        return _means(summed.reshape(len(counts), *own.shape[1:]))

    def exhibits(self, images: ImageRows) -> Exhibits:
        """The confusion matrix of pixels, and the images with the fewest right ones."""
        wrong = [entry for entry in self.worst if entry.right < 1.0]
        shown = [
            Captioned(side_by_side([images[entry.number], *drawn_masks(entry, images[entry.number], self.classes)]),
                      (f"{entry.right:.1%} of the labelled pixels are right",))
            for entry in wrong
        ]  # fmt: skip
        gallery = Gallery("The images with the fewest right pixels", tuple(shown), are_mistakes=True,
                          parts=("image", "labels", "answer"), colours=legend_colours(wrong, self.classes))  # fmt: skip
        return Exhibits(
            matrices=(Matrix("Answers by true class, pixels", self.classes, self._confusion, are_many=True),),
            galleries=(gallery,) if shown else (),
        )

    def draw(self, folder: Path, images: ImageRows) -> list[Path]:
        """Writes `confusion.png`, shares of each true class's pixels, and `overlays.png`, the worst images."""

        drawn = [draw_confusion(self._confusion, self.classes, folder / "confusion.png", in_percent=True)]
        if self.worst:
            drawn.append(draw_overlays(self.worst, images, self.classes, folder / "overlays.png"))
        return drawn


def _figures(counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Each class's figures [B,classes] from summed pixel counts [B,classes,7]; NaN for what nothing decides."""
    right, truth, answers, found, real, near_found, near_real = np.moveaxis(counts.astype(np.float64), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = near_found / np.maximum(found, 1.0), near_real / np.maximum(real, 1.0)
        boundary = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        return {
            "iou": right / (truth + answers - right),
            "dice": np.where(truth > 0, 2 * right / (truth + answers), np.nan),
            "boundary_f1": np.where(truth > 0, boundary, np.nan),
            "share": truth / np.maximum(truth.sum(1, keepdims=True), 1.0),
        }


def _means(counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """The figures of all classes together [B] from summed pixel counts [B,classes,7]."""
    figures = _figures(counts)
    right, truth = counts[..., 0].sum(1), counts[..., 1].sum(1)
    return {
        "miou": _mean(figures["iou"]),
        "pixel_accuracy": right / np.maximum(truth, 1),
        "dice": _mean(figures["dice"]),
        "boundary_f1": _mean(figures["boundary_f1"]),
    }


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means [B] of what is defined in [B,classes]; NaN where nothing is."""
    defined = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = np.where(defined, values, 0.0).sum(1) / defined.sum(1)
    return found


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _confusions(answers: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Labelled pixels of each image by true class and answered class, [N,classes,classes]."""
    images, size = len(truth), classes * classes
    pairs = truth.astype(np.int64) * classes + answers
    pairs += (np.arange(images) * size)[:, None, None]
    pairs[truth == IGNORED] = images * size  # a place of their own, after those of all images
    return np.bincount(pairs.ravel(), minlength=images * size + 1)[:-1].reshape(images, classes, classes)


def _boundary_counts(answers: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int) -> list[NDArray[np.int64]]:
    """Boundary pixels of each class in each image, [N,classes] each: answered, true, answered near a true one, true
    near an answered one.
    """
    height, width = truth.shape[1:]
    reach = max(1, round(BOUNDARY_TOLERANCE * float(np.hypot(height, width))))
    margin = ((0, 0), (reach, reach), (reach, reach))
    found, real = (
        np.pad(np.where(_edges(labels) & (truth != IGNORED), labels, IGNORED), margin, constant_values=IGNORED)
        for labels in (answers, truth)
    )
    counts, near = [], []
    for own, other in ((found, real), (real, found)):
        places = np.flatnonzero(own != IGNORED)
        counts.append(_by_class(own, places, classes))
        near.append(counts[-1] - _by_class(own, _far(own, other, places, reach), classes))
    return counts + near


def _edges(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels bool [N,H,W] of which one of the eight around is of another class."""
    edges = np.zeros(labels.shape, np.bool_)
    for one, other in (
        (np.s_[:, :, 1:], np.s_[:, :, :-1]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[:, 1:, 1:], np.s_[:, :-1, :-1]),
        (np.s_[:, 1:, :-1], np.s_[:, :-1, 1:]),
    ):
        differs = labels[one] != labels[other]
        edges[one] |= differs
        edges[other] |= differs
    return edges


def _far(own: NDArray[np.uint8], other: NDArray[np.uint8], places: NDArray[np.intp], reach: int) -> NDArray[np.intp]:
    """Those of the flat `places` whose class in `own` the square of `reach` around them in `other` does not hold.

    Both are uint8 [N,H,W] with a margin of `reach`, so that no square leads into the next row or image.
    """
    row = own.shape[2]
    steps = range(-reach, reach + 1)
    flat, labels = other.ravel(), own.ravel()[places]
    # The nearest first: most are found there, and only the rest is looked for further.
    for down, right in sorted(product(steps, steps), key=lambda step: max(map(abs, step))):
        left = flat[places + (down * row + right)] != labels
        places, labels = places[left], labels[left]
    return places


def _by_class(labels: NDArray[np.uint8], places: NDArray[np.intp], classes: int) -> NDArray[np.int64]:
    """How many of the flat `places` in [N,H,W] are of each class in each image, [N,classes]."""
    images = places // labels[0].size
    return np.bincount(images * classes + labels.ravel()[places], minlength=len(labels) * classes).reshape(-1, classes)


def drawn_masks(entry: Evaluated, image: NDArray[np.uint8], classes: tuple[str, ...]) -> list[NDArray[np.uint8]]:
    """The image uint8 [S,S,3] with its labels over it, and with the answer; a class `background` stays clear."""
    return [overlay_classes(image, mask, classes, OPACITY, OPACITY) for mask in (entry.truth, entry.answer)]


def legend_colours(evaluated: Sequence[Evaluated], classes: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The classes that are drawn in any of these images, each with its colour in `#rrggbb`."""
    present = {int(label) for entry in evaluated for mask in (entry.truth, entry.answer) for label in np.unique(mask)}
    return tuple(
        (name, f"#{bytes(class_colour(label)).hex()}")
        for label, name in enumerate(classes)
        if label in present and name != BACKGROUND
    )


def draw_overlays(evaluated: Sequence[Evaluated], images: ImageRows, classes: tuple[str, ...], path: Path) -> Path:
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
        for axes, title, panel in zip(own, titles, (image, *drawn_masks(entry, image, classes)), strict=True):
            axes.imshow(panel)
            axes.set_title(title, fontsize=9)
    handles = [Patch(color=colour, label=in_chart(name)) for name, colour in legend_colours(evaluated, classes)]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(8, len(handles)), fontsize=9)
    return save_chart(figure, path, dpi=110)
