"""Top-1, top-5, per-class precision and recall, calibration error and the confusion matrix, by torchmetrics."""

from pathlib import Path

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

from nanocv_cli.tasks.base import Evaluator, Metrics, Outputs

CALIBRATION_BINS = 15


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

    def confusion(self) -> NDArray[np.int64]:
        """Counts [classes, classes]: rows are true classes, columns answers."""
        probabilities, labels = torch.cat(self._probabilities), torch.cat(self._labels)
        matrix: NDArray[np.int64] = multiclass_confusion_matrix(probabilities, labels, len(self.classes)).numpy()
        return matrix

    def draw(self, folder: Path, images: NDArray[np.uint8]) -> list[Path]:
        """Writes `confusion.png`."""
        from nanocv_cli.tasks.confusion import draw_confusion

        return [draw_confusion(self.confusion(), self.classes, folder / "confusion.png")]
