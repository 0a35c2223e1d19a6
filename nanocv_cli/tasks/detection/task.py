"""Detection: boxed objects; losses are the network's own, answers are boxes, scores and labels."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nanocv_cli.config.schema import ModelConfig, TrainConfig
from nanocv_cli.data.augment import sent
from nanocv_cli.data.dataset import Samples
from nanocv_cli.data.labels.boxes import Boxes, box_targets
from nanocv_cli.data.views import augment_boxes
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.models.dense_detection import Losses
from nanocv_cli.tasks.base import EQUAL, Normalised, Say, StepSettings, Task, recoloured
from nanocv_cli.tasks.detection.boxes import overlaps
from nanocv_cli.tasks.detection.config import Recipe
from nanocv_cli.tasks.detection.metrics import DetectionEvaluator
from nanocv_cli.tasks.detection.torchvision_detectors import TorchvisionDetector
from nanocv_cli.tasks.evaluator import EvalContext, Outputs

if TYPE_CHECKING:
    import onnx

# Below this a box is noise that a rounding error may add or remove; no reader shows it.
SMALLEST_SCORE = 0.05
RIVALS_OVERLAP = 0.4

# Objects of a batch come in multiples of so many rows, so that a network sees few shapes.
ROWS = 8

Points = NDArray[np.float64]


class ExportModel(Normalised):
    """A detector with its normalisation: raw images in, finished detections out."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps uint8 [N,S,S,3] RGB to boxes [N,K,4] xyxy in 0..1, scores [N,K] and labels int64 [N,K]."""
        boxes, scores, labels = self.network(self.normalise(images))
        return boxes.float(), scores.float(), labels


class Detection(Task):
    """See `tasks.base.Task` for what each method promises."""

    name = "detection"
    label = Boxes
    train_metric_name = "overlap"
    # How many objects a view still shows is known before the device has painted it.
    targets_on_cpu = True
    output_names = ("boxes", "scores", "labels")
    tolerance = 2e-3

    def targets(self, samples: Samples[Boxes], size: int, resize: str, cache: Path, say: Say) -> NDArray[np.float32]:
        """Objects, float32 [n,M,6]; see `data/labels/boxes.py`."""
        return box_targets(samples)

    def mixes(self, train: TrainConfig) -> bool:
        return cast(Recipe, train).augment.mosaic > 0

    def augment(self, images: Tensor, targets: Tensor, settings: StepSettings) -> tuple[Tensor, Tensor]:
        config = cast(Recipe, settings.train).augment
        views, objects = augment_boxes(images, targets, settings.size, config, settings.generator, settings.share)
        rows = -objects.shape[1] % ROWS
        return recoloured(views, config, settings), sent(F.pad(objects, (0, 0, 0, rows), value=-1.0), images.device)

    def has_fixed_shapes(self, network: nn.Module) -> bool:
        """But for torchvision's, which pick their objects out of the targets."""
        return not isinstance(network, TorchvisionDetector)

    def training_inputs(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return inputs, targets

    def loss(self, outputs: Losses, targets: Tensor, train: TrainConfig) -> Tensor:
        return outputs.total

    def train_metric(self, outputs: Losses, targets: Tensor) -> Tensor:
        """Mean overlap of the places that learn an object, for each image of the batch."""
        return outputs.overlap * len(targets)

    def export_model(self, network: nn.Module, model: ModelConfig) -> nn.Module:
        return ExportModel(network, model.mean, model.std)

    def to_onnx(
        self, network: nn.Module, model: ModelConfig, card: ModelCard, any_size: bool = False
    ) -> "onnx.ModelProto":
        """As a graph of one image at a time for torchvision's: their answers are lists of whatever length, which torch
        cannot export with a dynamic batch.
        """
        if not isinstance(network, TorchvisionDetector):
            return super().to_onnx(network, model, card, any_size)
        from nanocv_cli.models.onnx_exporter import build_single_graph

        return build_single_graph(self.export_model(network, model), self.output_names, card)

    def evaluator(self, classes: tuple[str, ...], model: ModelConfig, context: EvalContext) -> DetectionEvaluator:
        return DetectionEvaluator(classes, model.input_size)

    def parity_error(self, expected: Outputs, actual: Outputs, equal: float = EQUAL) -> float:
        return unmatched_distance(expected, actual, equal)


def unmatched_distance(expected: Outputs, actual: Outputs, equal: float = EQUAL) -> float:
    """Largest difference between each box and its nearest partner of the same label on the other side.

    A box is a point of five coordinates (four corners in 0..1 and the score); its distance to another is the largest
    difference of any. Both sides are compared with each other, so a box that one side lacks counts with its score, but
    for one that lost against a rival of an equal score.

    Args:
        expected, actual: boxes, scores, labels.
        equal: which of two boxes suppresses the other, or which of them is the last of the answered ones, is a matter
            of rounding where their scores are as close as this.

    Returns:
        0 for the same boxes in any order; NaN if a value is none.
    """
    worst = 0.0
    for image in range(len(expected["scores"])):
        left, right = _points(expected, image), _points(actual, image)
        if not (np.isfinite(left).all() and np.isfinite(right).all()):
            return float("nan")
        worst = max(worst, _one_way(left, right, equal), _one_way(right, left, equal))
    return worst


def _points(outputs: Outputs, image: int) -> Points:
    """Rows of label, x0, y0, x1, y1, score."""
    columns = [outputs["labels"][image][:, None], outputs["boxes"][image], outputs["scores"][image][:, None]]
    return np.concatenate(columns, 1).astype(np.float64)


def _one_way(left: Points, right: Points, equal: float) -> float:
    worst, lowest = 0.0, float(right[:, 5].min(initial=1.0))
    for point in left[left[:, 5] >= SMALLEST_SCORE]:
        partners = right[right[:, 0] == point[0]]
        apart = np.abs(partners[:, 1:] - point[1:]).max(1, initial=0.0)
        nearest = min([float(point[5]), *apart.tolist()])
        if nearest <= worst or _lost_to_a_rival(point, partners, equal) or point[5] <= lowest + equal:
            continue
        worst = nearest
    return worst


def _lost_to_a_rival(point: Points, partners: Points, equal: float) -> bool:
    rivals = partners[np.abs(partners[:, 5] - point[5]) <= equal]
    return bool((overlaps(point[1:5], rivals[:, 1:5]) >= RIVALS_OVERLAP).any())
