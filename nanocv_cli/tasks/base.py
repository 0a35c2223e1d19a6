"""What a task must offer the rest of the house; one room per task implements it, and nobody else asks which it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nanocv_cli.config.schema import DataConfig, ModelConfig, TrainConfig
from nanocv_cli.data.dataset import Dataset, Sample

Outputs = Mapping[str, NDArray[Any]]
Metrics = dict[str, Any]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Score:
    """The metric by which epochs are evaluated, a share 0..1, and which of them gives the weights to keep.

    Attributes:
        name: its key among the metrics.
        last_is_best: keep the last epoch's weights whatever the metric says, else those of its highest value.
    """

    name: str
    last_is_best: bool = False

    def better(self, value: float, best: float | None) -> bool:
        """Whether to keep the weights of a value, given the value of those kept so far, if there are any."""
        return self.last_is_best or best is None or value > best


@dataclass(frozen=True)
class EvalContext:
    """What an evaluator may use beside the images and labels of a split.

    Attributes:
        train_images: uint8 [n,S,S,3] of the training split, where the task wants it; None: not at hand.
        online: whether to measure what needs a download.
    """

    train_images: NDArray[np.uint8] | None = None
    online: bool = False


class Evaluator(Protocol):
    """Collects finished predictions against labels and turns them into the task's standard metrics."""

    def update(self, outputs: Outputs, targets: NDArray[Any], images: NDArray[np.uint8]) -> None:
        """Adds one batch: the exported graph's outputs by name, and targets and images [N,S,S,3] they belong to."""

    def compute(self) -> Metrics:
        """The metrics over all that was added, JSON-ready."""

    def draw(self, folder: Path, images: NDArray[np.uint8]) -> list[Path]:
        """Writes the task's images (a confusion matrix, say) as PNG and returns their paths.

        Args:
            folder: where to.
            images: uint8 [n,S,S,3], what was evaluated, in the order of the updates.
        """

    def snapshot(self, folder: Path, epoch: int) -> None:
        """Writes what shows how far an epoch of training has come, for tasks whose answers are images."""


class Task(Protocol):
    """One problem: what a label is, how it is learnt, what the exported graph answers, how that is measured."""

    name: str
    best: Score  # what names the best epoch
    train_metric_name: str  # of what `train_metric` sums: shown while training, where the best one takes too long
    output_names: tuple[str, ...]  # of the exported graph
    wants_train_images: bool  # whether the evaluator compares with images that were learnt from
    online_metrics: tuple[str, ...]  # metrics that need a download
    tolerance: float  # largest difference between graph and checkpoint that export accepts, in units of the outputs

    def read(self, config: DataConfig, root: Path) -> Dataset[Any]:
        """Reads the set with the labels this task learns from."""

    def targets(self, samples: list[Sample[Any]], size: int, resize: str, cache: Path, say: Say) -> NDArray[Any]:
        """The samples' labels as one array with a row per image.

        Args:
            samples: images of one split.
            size: side of the square that the images are read as, pixels.
            resize: how they become that square.
            cache: folder for what is costly to make.
            say: is told of what is amiss there.
        """

    def augment(
        self,
        images: Tensor,
        targets: Tensor,
        size: int,
        dtype: torch.dtype,
        model: ModelConfig,
        train: TrainConfig,
        generator: torch.Generator,
    ) -> tuple[Tensor, Any]:
        """Turns uint8 [N,S,S,3] and targets into normalised [N,3,size,size] of `dtype` and what `loss` takes."""

    def training_inputs(self, inputs: Tensor, targets: Any) -> tuple[Any, ...]:
        """What the network is called with in training mode, from what `augment` returned."""

    def loss(self, outputs: Any, targets: Any, train: TrainConfig) -> Tensor:
        """The scalar loss of the network's outputs in training mode."""

    def train_metric(self, outputs: Any, targets: Any) -> Tensor:
        """The live score, summed over the images of the batch: a scalar."""

    def graph_inputs(self, images: NDArray[np.uint8], targets: NDArray[Any], first: int) -> dict[str, NDArray[Any]]:
        """What the whole model is called with, by the graph's names and in the module's order.

        Args:
            images: uint8 [N,S,S,3] of a split.
            targets: of them, [N,...].
            first: number of the first of them in the split.
        """

    def export_model(self, network: nn.Module, model: ModelConfig) -> nn.Module:
        """The whole model: from `graph_inputs` to finished predictions, a tuple in the order of `output_names`."""

    def evaluator(self, classes: tuple[str, ...], model: ModelConfig, context: EvalContext) -> Evaluator:
        """A fresh evaluator.

        Args:
            classes: class names in label order.
            model: what is evaluated.
            context: what it may use.
        """

    def remap_labels(self, label: Any, numbers: Sequence[int]) -> Any:
        """A sample's label with class `numbers[n]` in place of `n`."""

    def parity_error(self, expected: Outputs, actual: Outputs) -> float:
        """How far two models' outputs for the same images are apart, in units of `tolerance`; NaN if one is."""


def named_outputs(task: Task, outputs: tuple[Tensor, ...]) -> dict[str, NDArray[np.generic]]:
    """A export_model module's outputs as the exported graph would name them."""
    return {name: output.cpu().numpy() for name, output in zip(task.output_names, outputs, strict=True)}


def largest_difference(expected: Outputs, actual: Outputs) -> float:
    """Largest absolute difference of any value of outputs of the same names and shapes; NaN if any value is."""
    return max(
        float(np.max(np.abs(wanted.astype(np.float64) - actual[name].astype(np.float64)), initial=0.0))
        for name, wanted in expected.items()
    )
