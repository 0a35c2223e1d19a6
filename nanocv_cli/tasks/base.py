"""What a task offers the rest of the house: one room per task fills it in, and nobody else asks which it is.

Also what tasks share: raw images as networks read them, in training with changed colours, and inside the graph.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nanocv_cli.config.schema import ColourAugment, DataConfig, ModelConfig, TrainConfig
from nanocv_cli.data.augment import colour_matrices, normalise
from nanocv_cli.data.batches import Share
from nanocv_cli.data.dataset import Dataset, Samples
from nanocv_cli.data.formats.table import read_as
from nanocv_cli.data.labels.base import ClassLabel, Label
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.rooms import Score, room
from nanocv_cli.tasks.evaluator import EvalContext, Evaluator, Outputs

if TYPE_CHECKING:
    import onnx

Say = Callable[[str], None]

EQUAL = 1e-3  # scores whose difference may be rounding


@dataclass(frozen=True)
class StepSettings:
    """What one training step is made with.

    Attributes:
        size: side of the images that the network reads in this step, pixels.
        dtype: of the network's inputs.
        model: the run's model config.
        train: the run's recipe.
        generator: on the CPU; all that a step draws comes from it, so that a resumed run repeats it to the bit.
        share: the images that this process, and micro-batch, learns from; what is drawn is drawn for the whole batch.
    """

    size: int
    dtype: torch.dtype
    model: ModelConfig
    train: TrainConfig
    generator: torch.Generator
    share: Share


@dataclass(frozen=True)
class Companion:
    """Another model that a training learns from, which is no part of what it gives.

    Attributes:
        reference: what the user named.
        sha256: of its file, hex digits.
    """

    reference: str
    sha256: str


class Task(ABC):
    """One problem: what a label is, how it is trained on, what the exported graph answers, how that is measured.

    The defaults are those of a task that reads images and whose labels are class indices.

    Attributes:
        name: as configs and cards have it.
        label: the type of label that networks are trained on.
        train_metric_name: of what `train_metric` sums: shown while training as values of `best` are, for which it
            stands in where that takes too long.
        output_names: of the exported graph.
        tolerance: largest error between graph and checkpoint that export accepts, in the unit of `parity_error`.
        int8_tolerance: likewise where both round to int8: a value between two steps goes either way.
        targets_on_cpu: whether `training_step` reads targets on the CPU, and moves what it makes of them.
        wants_train_images: whether the evaluator compares with the images that were trained on.
        online_metrics: metrics that need a download.
        any_size: whether a graph can read images of any height and width.
        companions: the models that are learnt from, by the key of the recipe that names them.
    """

    name: ClassVar[str]
    label: ClassVar[type[Label]] = ClassLabel
    train_metric_name: ClassVar[str]
    output_names: ClassVar[tuple[str, ...]]
    tolerance: ClassVar[float] = 1e-3
    int8_tolerance: ClassVar[float] = 0.1
    targets_on_cpu: ClassVar[bool] = False
    wants_train_images: ClassVar[bool] = False
    online_metrics: ClassVar[tuple[str, ...]] = ()
    any_size: ClassVar[bool] = False
    companions: Mapping[str, Companion] = MappingProxyType({})

    @property
    def best(self) -> Score:
        """What names the best epoch, as the task's room declares it."""
        return room(self.name).score

    def read(self, config: DataConfig, root: Path) -> Dataset[Any]:
        """Reads the set with the labels this task learns from; by default in any format that holds such labels.

        Args:
            config: of the set.
            root: folder of its images.

        Raises:
            RequestError: the set is of a format that holds no such labels.
            DataError: the set is not there, or its labels cannot be read.
        """
        return read_as(self.label, config, root)

    def accompanied(self, train: TrainConfig, classes: tuple[str, ...], device: torch.device, root: Path) -> "Task":
        """The task for one training, with the companions that its recipe names opened; by default there are none.

        Args:
            train: the recipe.
            classes: of the training, in label order.
            device: where it learns.
            root: the project.

        Raises:
            RequestError: there is no such companion, or it does not fit.
            ModelError: its file is damaged.
        """
        return self

    def targets(self, samples: Samples[Any], size: int, resize: str, cache: Path, say: Say) -> NDArray[Any]:
        """The samples' labels as one array with a row per image; int64 [n] of class indices by default.

        Args:
            samples: images of one split.
            size: side of the square that the images are read as, pixels.
            resize: how they become that square.
            cache: folder for what is costly to make.
            say: is told of what is amiss there.
        """
        return np.fromiter((label.index for label in samples.labels), np.int64, len(samples))

    def mixes(self, train: TrainConfig) -> bool:
        """Whether augmentation puts parts of images into others of their batch, and so is given the whole of it."""
        return False

    def has_fixed_shapes(self, network: nn.Module) -> bool:
        """Whether what a network does in training follows from the shapes of its inputs, and those are few."""
        return True

    def training_step(
        self, forward: Callable[..., Any], images: Tensor, targets: Tensor, settings: StepSettings
    ) -> tuple[Tensor, Tensor]:
        """All that a batch passes through before the step backwards: augmentation, network, loss, live metric.

        Args:
            forward: calls the network in training mode, in its precision.
            images: uint8 [N,S,S,3] on the device that trains, see `augment`.
            targets: of them, [N,...], there too, or on the CPU where the task's `targets_on_cpu` says so.
            settings: of the step.

        Returns:
            the loss, a scalar to differentiate, and the live metric summed over the share, a scalar.
        """
        inputs, expected = self.augment(images, targets, settings)
        outputs = forward(*self.training_inputs(inputs, expected))
        loss = self.loss(outputs, expected, settings.train)
        with torch.no_grad():
            return loss, self.train_metric(outputs, expected)

    @abstractmethod
    def augment(self, images: Tensor, targets: Tensor, settings: StepSettings) -> tuple[Tensor, Any]:
        """A share of a batch as the network learns it.

        Args:
            images: uint8 [N,S,S,3] of the share; of the whole batch where the task `mixes`.
            targets: of them, [N,...].
            settings: of the step.

        Returns:
            the share's images, normalised [n,3,size,size] of `settings.dtype`, and what `loss` and `train_metric`
            compare with.
        """

    def training_inputs(self, inputs: Tensor, targets: Any) -> tuple[Any, ...]:
        """What the network is called with in training mode: by default the inputs alone.

        Args:
            inputs: [N,3,S,S], from `augment`.
            targets: likewise.
        """
        return (inputs,)

    @abstractmethod
    def loss(self, outputs: Any, targets: Any, train: TrainConfig) -> Tensor:
        """The mean loss of a batch, a float32 scalar.

        Args:
            outputs: of the network in training mode, maybe in half precision.
            targets: from `augment`.
            train: the recipe, with the loss's own keys.
        """

    @abstractmethod
    def train_metric(self, outputs: Any, targets: Any) -> Tensor:
        """The live metric, summed over the images of the batch: a scalar; nothing is differentiated through it.

        Args:
            outputs: of the network in training mode.
            targets: from `augment`.
        """

    def graph_inputs(self, images: NDArray[np.uint8], targets: NDArray[Any], first: int) -> dict[str, NDArray[Any]]:
        """What the whole model is called with, by the graph's names and in the module's order: by default the images.

        Args:
            images: uint8 [N,S,S,3] of a split.
            targets: of them, [N,...].
            first: number of the first of them in the split.
        """
        return {"images": images}

    @abstractmethod
    def export_model(self, network: nn.Module, model: ModelConfig) -> nn.Module:
        """The whole model: from `graph_inputs` to finished predictions, a tuple in the order of `output_names`.

        Args:
            network: reads normalised float [N,3,S,S].
            model: its config.
        """

    def to_onnx(
        self, network: nn.Module, model: ModelConfig, card: ModelCard, any_size: bool = False
    ) -> "onnx.ModelProto":
        """The whole model as a graph; by default torch's exporter follows `export_model`.

        Args:
            network: as for `export_model`, on the CPU.
            model: its config.
            card: goes into the graph's metadata.
            any_size: whether height and width shall be symbolic too; only where the task's `any_size` says so.

        Raises:
            ExportError: the model cannot be expressed as ONNX.
        """
        from nanocv_cli.models.onnx_exporter import build_graph

        return build_graph(self.export_model(network, model), self.output_names, card, any_size)

    @abstractmethod
    def evaluator(self, classes: tuple[str, ...], model: ModelConfig, context: EvalContext) -> Evaluator:
        """A fresh evaluator.

        Args:
            classes: class names in label order.
            model: what is evaluated.
            context: what it may use.
        """

    def parity_error(self, expected: Outputs, actual: Outputs, equal: float = EQUAL) -> float:
        """How far two models' outputs for the same images are apart, in units of `tolerance`; NaN if one is.

        By default the largest difference of any value.

        Args:
            expected: [N,...] each, by the exported graph's names.
            actual: of the same names and shapes.
            equal: scores as close as this are equal: a decision between them may go either way.
        """
        return largest_difference(expected, actual)


def named_outputs(task: Task, outputs: tuple[Tensor, ...]) -> dict[str, NDArray[np.generic]]:
    """An export model's outputs as the exported graph would name them."""
    return {name: output.cpu().numpy() for name, output in zip(task.output_names, outputs, strict=True)}


def largest_difference(expected: Outputs, actual: Outputs) -> float:
    """Largest absolute difference of any value of outputs of the same names and shapes; NaN if any value is."""
    return max(
        float(np.max(np.abs(wanted.astype(np.float64) - actual[name].astype(np.float64)), initial=0.0))
        for name, wanted in expected.items()
    )


def recoloured(views: Tensor, augment: ColourAugment, settings: StepSettings) -> Tensor:
    """Colours changed at random as the recipe says, then normalised as the model reads them.

    Args:
        views: uint8 [N,S,S,3], what geometry has left of the share's images.
        augment: the recipe's.
        settings: of the step.

    Returns:
        [N,3,S,S] of `settings.dtype`.
    """
    model = settings.model
    share = settings.share
    matrix, offset = map(share.of, colour_matrices(share.total, augment, settings.generator))
    return normalise(views, matrix, offset, torch.tensor(model.mean), torch.tensor(model.std), settings.dtype)


class Normalised(nn.Module):
    """A network behind its normalisation; what a task deploys says what becomes of the answers.

    Args:
        network: reads normalised float [N,3,S,S].
        mean: per channel, of RGB values in 0..1.
        std: per channel.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        # (x/255 - mean) / std as one multiplication and one addition.
        self.register_buffer("scale", torch.tensor([1.0 / (255.0 * s) for s in std]).view(1, 3, 1, 1))
        self.register_buffer("shift", torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(1, 3, 1, 1))

    def normalise(self, images: Tensor) -> Tensor:
        """Maps uint8 [N,S,S,3] RGB to normalised float [N,3,S,S]."""
        return images.permute(0, 3, 1, 2).float() * self.scale + self.shift
