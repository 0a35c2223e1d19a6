"""COCO's average precision, by faster-coco-eval (the same figures as pycocotools, in C++), and each image's mistakes:
answers matched with its objects.
"""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.data.labels.boxes import IGNORED, LABEL
from nanocv_cli.tasks.detection.average_precision import Matches, match_image, resampled_precision
from nanocv_cli.tasks.detection.boxes import overlaps
from nanocv_cli.tasks.evaluator import Evaluator, ImageRows, Metrics, Outputs
from nanocv_cli.tasks.exhibits import Captioned, Curve, Exhibits, Gallery
from nanocv_cli.tasks.exhibits import Curves as PlottedCurves

AREAS = ("all", "small", "medium", "large")
IOU_50, IOU_75 = 0, 5  # rows of COCO's thresholds 0.50, 0.55, ..., 0.95

# Answers below this score are not held against the objects; a match overlaps by so much.
CONFIDENT = 0.3
OVERLAP = 0.5


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


class DetectionEvaluator(Evaluator):
    """Collects detections and objects of a split.

    Args:
        classes: class names in label order.
        input_size: side of the square image, pixels: COCO's small (below 32x32), medium and large (from 96x96 on) are
            areas in it.
    """

    def __init__(self, classes: tuple[str, ...], input_size: int) -> None:
        self.classes = classes
        self._side = float(input_size)
        self._images = 0
        self._evaluated: list[Evaluated] = []
        self._answers: list[tuple[NDArray[Any], NDArray[Any], NDArray[np.int64], NDArray[Any]]] = []
        self._matches: list[list[Matches]] | None = None
        self._objects: list[dict[str, Any]] = []
        self._detections: list[dict[str, Any]] = []

    def update(self, outputs: Outputs, targets: NDArray[np.float32], images: NDArray[np.uint8]) -> None:
        """Adds a batch.

        Args:
            outputs: `boxes` float [N,K,4] xyxy in 0..1, `scores` [N,K] (0: no box), `labels` [N,K].
            targets: float32 [N,M,6] as in `data/labels/boxes.py`; ignored objects count as COCO's crowds.
        """
        for boxes, scores, labels, rows in zip(
            outputs["boxes"], outputs["scores"], outputs["labels"], targets, strict=True
        ):
            self._add(boxes.astype(float), scores.astype(float), labels, rows.astype(float))

    def state(self) -> Any:
        return self._answers

    def absorb(self, state: Any) -> None:
        for answers in state:
            self._add(*answers)

    def _add(
        self, boxes: NDArray[np.float64], scores: NDArray[np.float64], labels: NDArray[np.int64],
        rows: NDArray[np.float64],
    ) -> None:  # fmt: skip
        """Adds one image's answers and objects; see `evaluate_image`."""
        answers = (boxes, scores, labels, rows)
        self._answers.append(answers)
        self._matches = None
        self._evaluated.append(evaluate_image(self._images, *answers))
        self._images += 1
        for row in rows[rows[:, LABEL] >= 0]:
            box = self._box(row[:4])
            self._objects.append({
                "id": len(self._objects) + 1, "image_id": self._images, "category_id": int(row[LABEL]) + 1,
                "bbox": box, "area": box[2] * box[3], "iscrowd": int(row[IGNORED]),
            })  # fmt: skip
        for place in np.flatnonzero(scores > 0.0):
            self._detections.append({
                "image_id": self._images, "category_id": int(labels[place]) + 1, "bbox": self._box(boxes[place]),
                "score": float(scores[place]),
            })  # fmt: skip

    def _box(self, corners: NDArray[Any]) -> list[float]:
        x0, y0, x1, y1 = (float(value) * self._side for value in corners)
        return [x0, y0, x1 - x0, y1 - y0]

    def compute(self) -> Metrics:
        """All metrics, shares in 0..1; what no object of the split decides is null.

        Returns:
            `map` (mean over classes and over IoU thresholds 0.50 to 0.95), `map50`, `map75`, `map_small`, `map_medium`,
            `map_large`, `recall` (at most 100 detections, mean over thresholds), and per class `map`, `map50`, `recall`
            at IoU 0.5, `f1` (the best of all score thresholds), `threshold` (the score it has there) and `n`.
        """
        found = self.curves()
        metrics: Metrics = {
            "map": _mean(found.precision[..., 0]),
            "map50": _mean(found.precision[IOU_50, ..., 0]),
            "map75": _mean(found.precision[IOU_75, ..., 0]),
        }
        metrics |= {f"map_{area}": _mean(found.precision[..., n]) for n, area in enumerate(AREAS) if n}
        # Training compares epochs by this figure.
        metrics["map"] = metrics["map"] or 0.0
        metrics["recall"] = _mean(found.recall[..., 0])
        counts = np.bincount([entry["category_id"] - 1 for entry in self._objects if not entry["iscrowd"]],
                             minlength=len(self.classes))  # fmt: skip
        metrics["per_class"] = {}
        for label, name in enumerate(self.classes):
            best, threshold = _best_f1(found, label)
            metrics["per_class"][name] = {
                "map": _mean(found.precision[:, :, label, 0]),
                "map50": _mean(found.precision[IOU_50, :, label, 0]),
                "recall": _mean(found.recall[IOU_50, label, 0]),
                "f1": best,
                "threshold": threshold,
                "n": int(counts[label]),
            }
        return metrics

    def resampled(self, counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """`map`, `map50`, `map75` and `recall`; see `Evaluator`."""
        if self._matches is None:
            self._matches = [match_image(*answers, len(self.classes)) for answers in self._answers]
        return resampled_precision(self._matches, counts)

    def exhibits(self, images: ImageRows) -> Exhibits:
        """Precision over recall of each class, and the images with the costliest mistakes."""
        from nanocv_cli.tasks.detection.plots import COLOURS, drawn_mistakes, worst

        found, recalls = self.curves(), np.linspace(0.0, 1.0, 101)
        curves = tuple(
            Curve(name, recalls, found.precision[IOU_50, :, label, 0])
            for label, name in enumerate(self.classes)
            if found.precision[IOU_50, 0, label, 0] > -1
        )
        shown = [
            Captioned(
                drawn_mistakes(entry, images[entry.number], self.classes),
                (f"{len(entry.missed)} missed, {int((~entry.right).sum())} wrong",),
            )
            for entry in worst(self._evaluated)
        ]
        failed = sum(entry.cost > 0 for entry in self._evaluated)
        title = f"Mistakes in {failed} of {self._images} images, the costliest first"
        return Exhibits(
            curves=(PlottedCurves("Precision over recall, IoU 0.5", "recall", "precision", curves),) if curves else (),
            galleries=(Gallery(title, tuple(shown), are_mistakes=True, colours=COLOURS),) if shown else (),
        )

    def curves(self) -> "Curves":
        """Precision, recall and score over COCO's thresholds."""
        from faster_coco_eval import COCO, COCOeval_faster

        truth, answers = COCO(), COCO()
        categories = [{"id": number, "name": name} for number, name in enumerate(self.classes, start=1)]
        images = [{"id": number, "width": self._side, "height": self._side} for number in range(1, self._images + 1)]
        truth.dataset = {"images": images, "categories": categories, "annotations": self._objects}
        with contextlib.redirect_stdout(io.StringIO()):
            truth.createIndex()
            if self._detections:
                answers = truth.loadRes([dict(entry) for entry in self._detections])
            else:
                answers.dataset = {"images": images, "categories": categories, "annotations": []}
                answers.createIndex()
            evaluation = COCOeval_faster(truth, answers, iouType="bbox", print_function=lambda *text: None)
            evaluation.evaluate()
            evaluation.accumulate()
        shape = (10, 101, len(self.classes), len(AREAS), 3)
        found = evaluation.eval
        precision, scores = (np.asarray(found[key], float).reshape(shape)[..., -1] for key in ("precision", "scores"))
        recall = np.asarray(found["recall"], float).reshape(10, len(self.classes), len(AREAS), 3)[..., -1]
        return Curves(precision, recall, scores)

    def draw(self, folder: Path, images: ImageRows) -> list[Path]:
        """Writes `precision_recall.png` and, if there is any, `mistakes.png`."""
        from nanocv_cli.tasks.detection.plots import draw_mistakes, draw_precision_recall

        curves = draw_precision_recall(self.curves(), self.classes, folder / "precision_recall.png")
        mistakes = draw_mistakes(self._evaluated, images, self.classes, folder / "mistakes.png")
        return [curves, mistakes] if mistakes else [curves]


class Curves:
    """What COCO's evaluation found, at most 100 detections per image; -1 where there is no object.

    Attributes:
        precision: [10 IoU thresholds, 101 recalls 0.00 to 1.00, classes, areas].
        recall: [10, classes, areas], the highest reached.
        scores: [10, 101, classes, areas], the score at that recall.
    """

    def __init__(self, precision: NDArray[Any], recall: NDArray[Any], scores: NDArray[Any]) -> None:
        self.precision, self.recall, self.scores = precision, recall, scores


def _mean(values: Any) -> float | None:
    """Mean of what is defined; None if nothing is."""
    defined = np.asarray(values)[np.asarray(values) > -1]
    return float(defined.mean()) if defined.size else None


def _best_f1(found: Curves, label: int) -> tuple[float | None, float | None]:
    """The best harmonic mean of precision and recall at IoU 0.5, and the score threshold that gives it."""
    precision, recalls = found.precision[IOU_50, :, label, 0], np.linspace(0.0, 1.0, 101)
    if (precision < 0).all():
        return None, None
    f1 = 2.0 * precision * recalls / np.maximum(precision + recalls, 1e-12)
    best = int(f1.argmax())
    return float(f1[best]), float(found.scores[IOU_50, best, label, 0])
