"""Segmentation: a class for every pixel; cross-entropy and overlap, answers are a mask and how sure it is."""

from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nanocv_cli.config.schema import ModelConfig, TrainConfig
from nanocv_cli.data.dataset import Samples
from nanocv_cli.data.labels.masks import IGNORED, Mask, cached_masks
from nanocv_cli.data.views import augment_masks
from nanocv_cli.tasks.base import EQUAL, Normalised, Say, StepSettings, Task, recoloured
from nanocv_cli.tasks.evaluator import EvalContext, Outputs
from nanocv_cli.tasks.segmentation.config import Recipe
from nanocv_cli.tasks.segmentation.metrics import SegmentationEvaluator


class ExportModel(Normalised):
    """A segmenter with its normalisation: raw images in, masks out."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps uint8 [N,S,S,3] RGB to class indices uint8 [N,S,S] and their probabilities float32 [N,S,S]."""
        confidence, labels = self.network(self.normalise(images)).float().softmax(1).max(1)
        return labels.to(torch.uint8), confidence


class Segmentation(Task):
    """See `tasks.base.Task` for what each method promises."""

    name = "segmentation"
    label = Mask
    train_metric_name = "pixels"
    output_names = ("mask", "confidence")
    tolerance = 2e-3
    any_size = True

    def targets(self, samples: Samples[Mask], size: int, resize: str, cache: Path, say: Say) -> NDArray[np.uint8]:
        """Masks, uint8 [n,size,size]."""
        return cached_masks(cache, samples, size, resize, say=say)

    def mixes(self, train: TrainConfig) -> bool:
        return cast(Recipe, train).augment.mosaic > 0

    def augment(self, images: Tensor, targets: Tensor, settings: StepSettings) -> tuple[Tensor, Tensor]:
        config = cast(Recipe, settings.train).augment
        views, masks = augment_masks(images, targets, settings.size, config, settings.generator, settings.share)
        return recoloured(views, config, settings), masks

    def loss(self, outputs: Tensor, targets: Tensor, train: TrainConfig) -> Tensor:
        """Cross-entropy plus `train.region_loss` times the soft Dice loss (arXiv:1606.04797), which counts each class
        of the batch alike, however few its pixels.
        """
        recipe, logits, wanted = cast(Recipe, train), outputs.float(), targets.long()
        entropy = F.cross_entropy(logits, wanted, ignore_index=IGNORED, label_smoothing=recipe.label_smoothing)
        # A batch without a labelled pixel teaches nothing.
        entropy = torch.where((wanted == IGNORED).all(), torch.nan_to_num(entropy, nan=0.0), entropy)
        return entropy + recipe.region_loss * dice_loss(logits, wanted) if recipe.region_loss else entropy

    def train_metric(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Share of the labelled pixels that are right, for each image of the batch."""
        counted = targets != IGNORED
        right = ((outputs.detach().argmax(1) == targets) & counted).sum()
        return right / counted.sum().clamp(min=1) * len(targets)

    def export_model(self, network: nn.Module, model: ModelConfig) -> nn.Module:
        return ExportModel(network, model.mean, model.std)

    def evaluator(self, classes: tuple[str, ...], model: ModelConfig, context: EvalContext) -> SegmentationEvaluator:
        return SegmentationEvaluator(classes)

    def parity_error(self, expected: Outputs, actual: Outputs, equal: float = EQUAL) -> float:
        """Largest difference of a confidence, and 1 where a mask differs at a pixel that is not undecided."""
        left, right = expected["confidence"].astype(np.float64), actual["confidence"].astype(np.float64)
        apart = float(np.abs(left - right).max(initial=0.0))
        # Two classes as probable as one another have at most half of the probability each.
        undecided = left < 0.5 + equal
        return max(apart, 1.0) if ((expected["mask"] != actual["mask"]) & ~undecided).any() else apart


def dice_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """One minus the mean soft Dice coefficient of the classes that are in the batch.

    Args:
        logits: float32 [N,classes,H,W].
        wanted: int64 [N,H,W] with `IGNORED`.
    """
    counted = (wanted != IGNORED).unsqueeze(1)
    probabilities = logits.softmax(1) * counted
    classes = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)
    truth = (wanted.unsqueeze(1) == classes) & counted
    shared = (probabilities * truth).sum((0, 2, 3))
    both = probabilities.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    present = truth.sum((0, 2, 3)) > 0
    # Which classes those are is known to the device alone: the others are weighed by nothing.
    mean = (2.0 * shared / both.clamp(min=1e-6) * present).sum() / present.sum().clamp(min=1)
    return torch.where(present.any(), 1.0 - mean, 0.0)
