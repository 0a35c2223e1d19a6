"""Classification: one label per image; logits, cross-entropy, probabilities."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanocv_cli.config.schema import ModelConfig, TrainConfig
from nanocv_cli.data import augment
from nanocv_cli.data.batches import Share
from nanocv_cli.tasks.base import Normalised, StepSettings, Task, recoloured
from nanocv_cli.tasks.classification.config import Recipe
from nanocv_cli.tasks.classification.metrics import ClassificationEvaluator
from nanocv_cli.tasks.classification.teacher import Teacher, distillation_loss, open_teacher
from nanocv_cli.tasks.evaluator import EvalContext


@dataclass(frozen=True)
class MixedLabels:
    """Labels of images of which a part may have come from their neighbour in the batch.

    Attributes:
        own: int64 [N].
        neighbour: int64 [N].
        share: of each image that is its own, 0..1.
        taught: a teacher's logits float32 [N,classes] for the images as they were augmented; None: there is none.
    """

    own: Tensor
    neighbour: Tensor
    share: float
    taught: Tensor | None = None


class ExportModel(Normalised):
    """A classifier with its normalisation and softmax: raw images in, probabilities out."""

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Maps uint8 [N,S,S,3] RGB to probabilities float32 [N,classes]."""
        return (self.network(self.normalise(images)).float().softmax(1),)


class Classification(Task):
    """See `tasks.base.Task` for what each method promises.

    Args:
        teacher: whose answers are learnt beside the labels, if anybody's.
    """

    name = "classification"
    train_metric_name = "top1"
    output_names = ("probabilities",)

    def __init__(self, teacher: Teacher | None = None) -> None:
        self.teacher = teacher
        self.companions = {"teacher": teacher.file} if teacher else {}

    def accompanied(
        self, train: TrainConfig, classes: tuple[str, ...], device: torch.device, root: Path
    ) -> "Classification":
        reference = cast(Recipe, train).teacher
        return Classification(open_teacher(reference, classes, device, root)) if reference else self

    def mixes(self, train: TrainConfig) -> bool:
        return cast(Recipe, train).augment.mix > 0

    def augment(self, images: Tensor, targets: Tensor, settings: StepSettings) -> tuple[Tensor, MixedLabels]:
        config, generator, share = cast(Recipe, settings.train).augment, settings.generator, settings.share
        has_neighbour = config.mix > 0 and share.count < share.total
        if has_neighbour:  # that of the first image is augmented too: it stands before it
            share = Share((share.first - 1) % share.total, share.count + 1, share.total)
            images, targets, settings = share.of(images), share.of(targets), replace(settings, share=share)
        crops = augment.random_crops(images, settings.size, config, generator, share)
        inputs = recoloured(crops, config, settings)
        if config.erase:
            inputs = augment.erase(inputs, config.erase, generator, share)
        own, others = 1.0, targets.roll(1) if config.mix else targets
        if config.mix and torch.rand(1, generator=generator).item() < config.mix:
            inputs, own = augment.cut_and_mix(inputs, generator)
        if has_neighbour:
            inputs, targets, others = inputs[1:], targets[1:], others[1:]
        taught = self.teacher.logits(inputs, settings.model) if self.teacher else None
        return inputs, MixedLabels(targets, others, own, taught)

    def loss(self, outputs: Tensor, targets: MixedLabels, train: TrainConfig) -> Tensor:
        """Cross-entropy, mixed as the labels are; of it and of the distance to the teacher's answers, if there is one,
        the mean by `train.teacher_weight`.
        """
        logits, recipe = outputs.float(), cast(Recipe, train)
        labelled = _cross_entropy(logits, targets, recipe.label_smoothing)
        if targets.taught is None:
            return labelled
        taught = distillation_loss(logits, targets.taught, recipe.teacher_temperature)
        return (1.0 - recipe.teacher_weight) * labelled + recipe.teacher_weight * taught

    def train_metric(self, outputs: Tensor, targets: MixedLabels) -> Tensor:
        answers = outputs.detach().argmax(1)
        own, neighbour = (answers == targets.own).sum(), (answers == targets.neighbour).sum()
        return own if targets.share == 1.0 else targets.share * own + (1.0 - targets.share) * neighbour

    def export_model(self, network: nn.Module, model: ModelConfig) -> nn.Module:
        return ExportModel(network, model.mean, model.std)

    def evaluator(self, classes: tuple[str, ...], model: ModelConfig, context: EvalContext) -> ClassificationEvaluator:
        return ClassificationEvaluator(classes)


def _cross_entropy(logits: Tensor, targets: MixedLabels, smoothing: float) -> Tensor:
    own = F.cross_entropy(logits, targets.own, label_smoothing=smoothing)
    if targets.share == 1.0:
        return own
    neighbour = F.cross_entropy(logits, targets.neighbour, label_smoothing=smoothing)
    return targets.share * own + (1.0 - targets.share) * neighbour
