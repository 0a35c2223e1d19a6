"""torchvision's classifiers, detectors and segmenters as published: own head, own image, own count."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torchvision import models

from nanocv_cli.config.torchvision_names import TORCHVISION_CLASSIFIERS, TORCHVISION_DETECTORS, TORCHVISION_SEGMENTERS

# torchvision counted its detectors on images of this size, which their own transforms then resize.
DETECTOR_INPUT = 512


@dataclass(frozen=True)
class Published:
    """What torchvision says of a network.

    Attributes:
        macs: for one image, rounded to a million by torchvision (`_ops`, in GMACs there).
        params: trainable values.
        input_size: side of the image that it was counted on.
        classes: that its published weights tell apart.
    """

    macs: float
    params: int
    input_size: int
    classes: int


def published(name: str) -> Published:
    """torchvision's own figures for the default weights of a network."""
    weights = models.get_model_weights(name).DEFAULT
    preset = weights.transforms()
    if hasattr(preset, "crop_size"):
        size = preset.crop_size[0]
    else:
        size = preset.resize_size[0] if hasattr(preset, "resize_size") else DETECTOR_INPUT
    meta = weights.meta
    return Published(meta["_ops"] * 1e9, meta["num_params"], size, len(meta["categories"]))


def is_published(name: str) -> bool:
    """Whether torchvision has a classifier, detector or segmenter of this name."""
    return name in TORCHVISION_CLASSIFIERS + TORCHVISION_DETECTORS + TORCHVISION_SEGMENTERS


def build_published(name: str, input_size: int, classes: int) -> nn.Module:
    """The network as its published weights need it, with weights of no meaning; nothing is downloaded."""
    options: dict[str, Any] = {"num_classes": classes}
    if name in TORCHVISION_DETECTORS + TORCHVISION_SEGMENTERS:
        options["weights_backbone"] = None
    if name.startswith(("deeplabv3_", "fcn_")):
        options["aux_loss"] = True
    elif name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": True, "init_weights": False}
    elif name.startswith("vit_"):
        options["image_size"] = input_size
    elif name.startswith("maxvit_"):
        options["input_size"] = (input_size, input_size)
    network: nn.Module = models.get_model(name, weights=None, **options)
    if name in TORCHVISION_DETECTORS:
        # Boxes and masks are put back into the original image by the host: no arithmetic of the network.
        network.transform.postprocess = lambda found, *sizes: found  # type: ignore[union-attr]
    return network


def published_inputs(name: str, input_size: int, device: str, batch: int) -> tuple[Any, ...]:
    """What the network's forward takes for a batch; a detector takes a list of images."""
    images = torch.empty(batch, 3, input_size, input_size, device=device)
    return (list(images),) if name in TORCHVISION_DETECTORS else (images,)
