"""Top-1, top-5, per-class precision and recall, calibration error and the confusion matrix, by torchmetrics."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_precision,
    multiclass_recall,
)

from nanocv_cli.tasks.evaluator import Evaluator, ImageRows, Metrics, Outputs
from nanocv_cli.tasks.exhibits import Captioned, Exhibits, Gallery, Matrix

CALIBRATION_BINS = 15
SHOWN = 12


class ClassificationEvaluator(Evaluator):
    """Collects probabilities and labels of a split.

    Args:
        classes: class names in label order.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self._probabilities: list[Tensor] = []
        self._labels: list[Tensor] = []

    def update(self, outputs: Outputs, targets: NDArray[np.int64], images: NDArray[np.uint8]) -> None:
        """Adds `outputs["probabilities"]` float [N,classes] with labels int64 [N]."""
        self._probabilities.append(torch.tensor(outputs["probabilities"], dtype=torch.float32))
        self._labels.append(torch.tensor(targets))

    def state(self) -> Any:
        return self._probabilities, self._labels

    def absorb(self, state: Any) -> None:
        probabilities, labels = state
        self._probabilities += probabilities
        self._labels += labels

    def compute(self) -> Metrics:
        """All metrics; shares in 0..1.

        Returns:
            `top1`, `top5` (with more than five classes), `loss` (mean negative log-likelihood, nats),
            `calibration_error` (expected, 15 bins, arXiv:1706.04599), `macro_recall`, and per class `precision`,
            `recall`, `n`.
        """
        probabilities, labels = torch.cat(self._probabilities), torch.cat(self._labels)
        count = len(self.classes)
        precision = multiclass_precision(probabilities, labels, count, average="none")
        recall = multiclass_recall(probabilities, labels, count, average="none")
        present = torch.bincount(labels, minlength=count)
        true_class = probabilities.gather(1, labels[:, None]).clamp_min(1e-12)
        metrics: Metrics = {
            "top1": multiclass_accuracy(probabilities, labels, count, average="micro").item(),
            "loss": -true_class.log().mean().item(),
            "calibration_error": multiclass_calibration_error(probabilities, labels, count, CALIBRATION_BINS).item(),
            "macro_recall": recall[present > 0].mean().item(),
            "per_class": {
                name: {"precision": precision[i].item(), "recall": recall[i].item(), "n": int(present[i])}
                for i, name in enumerate(self.classes)
            },
        }
        if count > 5:
            metrics["top5"] = multiclass_accuracy(probabilities, labels, count, average="micro", top_k=5).item()
        return metrics

    def resampled(self, counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """All single figures; see `Evaluator`."""
        probabilities, labels = torch.cat(self._probabilities).numpy().astype(float), torch.cat(self._labels).numpy()
        total = counts.sum(1)
        confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
        true_class = np.take_along_axis(probabilities, labels[:, None], 1)[:, 0]
        found = {
            "top1": counts @ right / total,
            "loss": counts @ -np.log(true_class.clip(1e-12)) / total,
        }
        bins = np.digitize(confidence, np.linspace(0.0, 1.0, CALIBRATION_BINS + 1))
        found["calibration_error"] = np.abs(_by_group(counts * (right - confidence), bins)).sum(1) / total
        members, hits = _by_group(counts, labels), _by_group(counts * right, labels)
        present = members > 0
        recalls = np.where(present, hits / np.maximum(members, 1), 0.0)
        found["macro_recall"] = recalls.sum(1) / present.sum(1)
        if len(self.classes) > 5:
            better = (probabilities > true_class[:, None]).sum(1)
            found["top5"] = counts @ (better < 5) / total
        return found

    def exhibits(self, images: ImageRows) -> Exhibits:
        """The confusion matrix, and the images that were most surely answered wrong."""
        probabilities, labels = torch.cat(self._probabilities).numpy(), torch.cat(self._labels).numpy()
        answers = probabilities.argmax(1)
        wrong = np.flatnonzero(answers != labels)
        worst = wrong[np.argsort(probabilities[wrong, labels[wrong]], kind="stable")][:SHOWN]
        shown = [
            Captioned(
                np.array(images[place]),
                (
                    f"is {self.classes[labels[place]]} ({probabilities[place, labels[place]]:.1%})",
                    f"answer {self.classes[answers[place]]} ({probabilities[place, answers[place]]:.1%})",
                ),
            )
            for place in worst
        ]
        title = f"Wrong answers: {len(wrong)} of {len(labels)}, those that gave the true class the least first"
        return Exhibits(
            matrices=(Matrix("Answers by true class, images", self.classes, self.confusion()),),
            galleries=(Gallery(title, tuple(shown), are_mistakes=True),) if shown else (),
        )

    def confusion(self) -> NDArray[np.int64]:
        """Counts [classes, classes]: rows are true classes, columns answers."""
        probabilities, labels = torch.cat(self._probabilities), torch.cat(self._labels)
        matrix: NDArray[np.int64] = multiclass_confusion_matrix(probabilities, labels, len(self.classes)).numpy()
        return matrix

    def draw(self, folder: Path, images: ImageRows) -> list[Path]:
        """Writes `confusion.png`."""
        from nanocv_cli.tasks.evaluator import draw_confusion

        return [draw_confusion(self.confusion(), self.classes, folder / "confusion.png")]


def _by_group(values: NDArray[Any], groups: NDArray[np.int64]) -> NDArray[Any]:
    """Sums [B, groups that there are] of columns of values [B,n] that are of one group."""
    order = np.argsort(groups, kind="stable")
    starts = np.unique(groups[order], return_index=True)[1]
    found: NDArray[Any] = np.add.reduceat(values[:, order], starts, axis=1)
    return found
