"""The training side."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nanocv_cli.config.schema import ModelConfig, TrainConfig
from nanocv_cli.data.augment import resize
from nanocv_cli.data.dataset import Sample
from nanocv_cli.tasks.base import Normalised, Say, StepSettings, Task, recoloured
from nanocv_cli.tasks.evaluator import EvalContext, Evaluator, Metrics, Outputs
from tests.fifth_task.config import Recipe
from tests.fifth_task.labels import Count


class ExportModel(Normalised):
    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Maps uint8 [N,S,S,3] RGB to counts float32 [N]."""
        return (self.network(self.normalise(images)),)


class CountingEvaluator(Evaluator):
    def __init__(self) -> None:
        self._errors: list[NDArray[np.float64]] = []

    def update(self, outputs: Outputs, targets: NDArray[Any], images: NDArray[np.uint8]) -> None:
        self._errors.append(np.abs(outputs["count"].astype(np.float64) - targets))

    def state(self) -> Any:
        return self._errors

    def absorb(self, state: Any) -> None:
        self._errors += state

    def compute(self) -> Metrics:
        errors = np.concatenate(self._errors)
        return {"mae": float(errors.mean()), "worst": float(errors.max())}


class Counting(Task):
    name = "counting"
    label = Count
    train_metric_name = "error"
    output_names = ("count",)

    def targets(self, samples: list[Sample[Count]], size: int, resize: str, cache: Path, say: Say) -> NDArray[np.int64]:
        return np.array([sample.label.number for sample in samples], np.int64)

    def augment(self, images: Tensor, targets: Tensor, settings: StepSettings) -> tuple[Tensor, Tensor]:
        colours = cast(Recipe, settings.train).augment
        return recoloured(resize(images, settings.size), colours, settings), targets.float()

    def loss(self, outputs: Tensor, targets: Tensor, train: TrainConfig) -> Tensor:
        return F.smooth_l1_loss(outputs.float(), targets, beta=cast(Recipe, train).tolerance)

    def train_metric(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).abs().sum()

    def export_model(self, network: nn.Module, model: ModelConfig) -> nn.Module:
        return ExportModel(network, model.mean, model.std)

    def evaluator(self, classes: tuple[str, ...], model: ModelConfig, context: EvalContext) -> Evaluator:
        return CountingEvaluator()
