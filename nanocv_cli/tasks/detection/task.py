"""Detection: boxed objects; losses are the network's own, answers are boxes, scores and labels."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nanocv_cli.config.schema import ModelConfig, TrainConfig
from nanocv_cli.data.dataset import Sample
from nanocv_cli.data.labels.boxes import Boxes, box_targets
from nanocv_cli.data.views import augment_boxes
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.models.dense_detection import Losses
from nanocv_cli.tasks.base import EvalContext, Outputs, Say, StepSettings, Task
from nanocv_cli.tasks.detection.config import Recipe
from nanocv_cli.tasks.detection.matching import unmatched_distance
from nanocv_cli.tasks.detection.metrics import DetectionEvaluator
from nanocv_cli.tasks.detection.torchvision_detectors import TorchvisionDetector
from nanocv_cli.tasks.normalised import Normalised, recoloured

if TYPE_CHECKING:
    import onnx


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
    output_names = ("boxes", "scores", "labels")
    tolerance = 2e-3

    def targets(
        self, samples: list[Sample[Boxes]], size: int, resize: str, cache: Path, say: Say
    ) -> NDArray[np.float32]:
        """Objects, float32 [n,M,6]; see `data/labels/boxes.py`."""
        return box_targets(samples)

    def augment(self, images: Tensor, targets: Tensor, settings: StepSettings) -> tuple[Tensor, Tensor]:
        config = cast(Recipe, settings.train).augment
        views, objects = augment_boxes(images, targets, settings.size, config, settings.generator)
        return recoloured(views, config, settings), objects

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

    def parity_error(self, expected: Outputs, actual: Outputs) -> float:
        return unmatched_distance(expected, actual)
