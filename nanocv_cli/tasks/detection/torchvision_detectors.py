"""torchvision's detectors behind nanocv's door: by name, called and answering like nanocv's own."""

from typing import Any

import torch
from torch import Tensor, nn

from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.config.torchvision_names import TORCHVISION_DETECTORS
from nanocv_cli.data.labels.boxes import IGNORED, LABEL
from nanocv_cli.errors import ConfigError
from nanocv_cli.models.dense_detection import DETECTIONS, Losses
from nanocv_cli.models.published import torchvision_network

# These learn masks or key points too, which boxes do not give them.
NEED_MORE_THAN_BOXES = ("maskrcnn", "keypointrcnn")
FIXED_SIZE = {"ssd300_vgg16": 300, "ssdlite320_mobilenet_v3_large": 320}


def build_torchvision_detector(config: ModelConfig, classes: int) -> nn.Module:
    """Builds a torchvision detector for boxes; with `pretrained`, torchvision's backbone weights.

    Raises:
        ConfigError: torchvision has no such detector, or it needs masks, or another input size.
        ModelError: the backbone's weights cannot be downloaded.
    """
    name, size = config.architecture, config.input_size
    if name.startswith(NEED_MORE_THAN_BOXES):
        raise ConfigError(f"{name} learns from more than boxes", "choose fasterrcnn_*, fcos_*, retinanet_* or ssd*")
    if name not in TORCHVISION_DETECTORS:
        raise ConfigError(f"torchvision has no detector {name!r}", f"it has: {', '.join(TORCHVISION_DETECTORS)}")
    options: dict[str, Any] = {} if name in FIXED_SIZE else {"min_size": size, "max_size": size}
    if name in FIXED_SIZE and size != FIXED_SIZE[name]:
        hint = f"--set model.input_size={FIXED_SIZE[name]}"
        raise ConfigError(f"{name} reads {FIXED_SIZE[name]}x{FIXED_SIZE[name]} images, not {size}x{size}", hint)
    # Class 0 is torchvision's background.
    return TorchvisionDetector(torchvision_network(name, config.pretrained, num_classes=classes + 1, **options), size)


class TorchvisionDetector(nn.Module):
    """A torchvision detector on square images that are normalised already.

    Args:
        network: of torchvision, with the background as class 0.
        input_size: side of the images, pixels.
    """

    def __init__(self, network: nn.Module, input_size: int) -> None:
        super().__init__()
        self.network = network
        self.input_size = input_size
        transform: Any = network.transform
        transform.image_mean, transform.image_std = [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]

    def forward(self, images: Tensor, targets: Tensor | None = None) -> Losses | tuple[Tensor, Tensor, Tensor]:
        """Learns with targets, answers without; see `NanoSpot.forward`.

        torchvision's regions and anchors lose too much in half precision, so all of it runs in float32.
        """
        device = images.device.type
        # On shapes alone (the meta device) there is nothing to cast.
        with torch.autocast("cpu" if device == "meta" else device, enabled=False):
            scaled = list(images.float())
            if targets is None:
                return _stacked([self._answer(found) for found in self.network(scaled)])
            losses = self.network(scaled, [self._target(rows) for rows in targets])
        total = torch.stack(list(losses.values())).sum()
        return Losses(total, total.new_zeros(()))

    def _target(self, rows: Tensor) -> dict[str, Tensor]:
        counted = rows[(rows[:, LABEL] >= 0) & (rows[:, IGNORED] == 0)]
        return {"boxes": counted[:, :4] * self.input_size, "labels": counted[:, LABEL].long() + 1}

    def _answer(self, found: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes [K,4] in 0..1, scores [K] and labels [K], filled up with nothing."""
        boxes = (found["boxes"] / self.input_size).clamp(0.0, 1.0)
        none = boxes.new_zeros(DETECTIONS)
        return (
            torch.cat([boxes, boxes.new_zeros(DETECTIONS, 4)])[:DETECTIONS],
            torch.cat([found["scores"], none])[:DETECTIONS],
            torch.cat([found["labels"] - 1, none.long()])[:DETECTIONS],
        )


def _stacked(answers: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    boxes, scores, labels = (torch.stack(column) for column in zip(*answers, strict=True))
    return boxes, scores, labels
