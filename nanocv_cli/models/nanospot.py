"""NanoSpot: a small anchor-free detector that trains from scratch on a CPU.

One prediction per place of three feature maps, as in FCOS (arXiv:1904.01355): class scores and the distances to the
four sides. A backbone (its own, `backbones/nanospot.py`, or another), a top-down and bottom-up pyramid
(arXiv:1612.03144, arXiv:1803.01534), towers for classes and sides at each level, and task-aligned assignment
(`dense_detection.py`). Differs from FCOS: no centre-ness, for the score itself learns the overlap; no weights shared
between levels, which keeps each level's batch statistics its own.
At 320x320 and 4 classes: 0.95 M parameters, 1.05 GFLOPs.
"""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.models.arguments import NanoSpotArgs
from nanocv_cli.models.backbones.base import Backbone, Carrier
from nanocv_cli.models.backbones.nanospot import NanoSpotBackbone, convolution
from nanocv_cli.models.backbones.table import build_backbone
from nanocv_cli.models.dense_detection import CANDIDATES, DETECTIONS, Losses, best_detections, detection_losses
from nanocv_cli.models.registry import expect_multiple

STRIDES = (8, 16, 32)
DEFAULT = NanoSpotArgs()
SMALLEST_SCORE = 0.01  # that a fresh network gives to every class, so that the many empty places do not flood the loss
TYPICAL_SIDES = 2.0  # distance, in strides, that a fresh network answers


class Pyramid(nn.Module):
    """Three maps of one width from three maps of the backbone: first down, then up again."""

    def __init__(self, widths: tuple[int, ...], neck: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(convolution(width, neck, 1) for width in widths)
        self.down = nn.ModuleList(convolution(neck, neck) for _ in widths[1:])
        self.up = nn.ModuleList(convolution(neck, neck, stride=2) for _ in widths[1:])

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps of strides 8, 16, 32, fine to coarse."""
        fine, middle, coarse = (lateral(found) for lateral, found in zip(self.laterals, maps, strict=True))
        middle = self.down[0](middle + F.interpolate(coarse, size=middle.shape[2:], mode="nearest"))
        fine = self.down[1](fine + F.interpolate(middle, size=fine.shape[2:], mode="nearest"))
        middle = middle + self.up[0](fine)
        coarse = coarse + self.up[1](middle)
        return [fine, middle, coarse]


class Head(nn.Module):
    """Class logits and side distances of one level."""

    def __init__(self, classes: int, neck: int) -> None:
        super().__init__()
        self.class_tower = convolution(neck, neck)
        self.side_tower = convolution(neck, neck)
        self.classes = nn.Conv2d(neck, classes, 1)
        self.sides = nn.Conv2d(neck, 4, 1)
        nn.init.constant_(self.classes.bias, -math.log(1.0 / SMALLEST_SCORE - 1.0))  # type: ignore[arg-type]
        nn.init.constant_(self.sides.bias, math.log(math.expm1(TYPICAL_SIDES)))  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N,H*W,classes] and positive distances [N,H*W,4] in strides: left, up, right, down."""
        logits = self.classes(self.class_tower(features)).flatten(2).transpose(1, 2)
        sides = self.sides(self.side_tower(features)).flatten(2).transpose(1, 2)
        return logits, F.softplus(sides.float())


class PyramidDetector(Backbone):
    """Boxes, scores and labels of square images, from the maps of a backbone that a class adds."""

    centres: Tensor
    strides_of_places: Tensor

    def add_heads(self, classes: int, input_size: int, neck: int) -> None:
        """Adds what looks at the maps.

        Args:
            classes: number of classes.
            input_size: side of the square input; a multiple of 32.
            neck: channels of the pyramid and of the towers.
        """
        self.input_size = input_size
        self.pyramid = Pyramid(self.channels, neck)
        self.heads = nn.ModuleList(Head(classes, neck) for _ in STRIDES)
        centres, strides = anchor_points(input_size)
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("strides_of_places", strides, persistent=False)

    def forward(self, images: Tensor, targets: Tensor | None = None) -> Losses | tuple[Tensor, Tensor, Tensor]:
        """Learns with targets, answers without.

        Args:
            images: normalised float [N,3,S,S]; with targets any S, else `input_size`.
            targets: float32 [N,M,6] as in `data/labels/boxes.py`.

        Returns:
            with targets the losses; else boxes float32 [N,K,4] xyxy in 0..1, scores float32 [N,K] in 0..1, falling, 0
            for no object, and labels int64 [N,K], with K = 100.
        """
        logits, sides = self.raw(images)
        if targets is not None:
            size = images.shape[-1]
            own = (self.centres, self.strides_of_places)
            anchors = own if size == self.input_size else anchor_points(size, images.device)
            return detection_losses(logits, corners(sides, *anchors), targets, *anchors, float(size))
        boxes = corners(sides, self.centres, self.strides_of_places) / self.input_size
        return best_detections(boxes.clamp(0.0, 1.0), logits.sigmoid(), CANDIDATES, DETECTIONS)

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N,A,classes] and distances [N,A,4] in strides, of all places, fine level first; float32."""
        maps = self.pyramid(self.feature_maps(images))
        found = [head(features) for head, features in zip(self.heads, maps, strict=True)]
        return torch.cat([logits for logits, _ in found], 1).float(), torch.cat([sides for _, sides in found], 1)


class NanoSpot(NanoSpotBackbone, PyramidDetector):
    """A detector with NanoSpot's own backbone.

    Args:
        classes: number of classes.
        input_size: side of the square input; a multiple of 32.
        args: widths of backbone and neck.
    """

    def __init__(self, classes: int, input_size: int = 320, args: NanoSpotArgs = DEFAULT) -> None:
        super().__init__(args.widths)
        self.add_heads(classes, input_size, args.neck)


class CarryingNanoSpot(Carrier, PyramidDetector):
    """The same detector on a backbone that it carries.

    Args:
        classes: number of classes.
        input_size: side of the square input; a multiple of 32.
        backbone: with maps of strides 8, 16 and 32.
        neck: channels of the pyramid and of the towers.
    """

    def __init__(self, classes: int, input_size: int, backbone: Backbone, neck: int) -> None:
        super().__init__(backbone)
        self.add_heads(classes, input_size, neck)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """See `Backbone`; also at the sizes of progressive resizing, which some backbones would round down."""
        size = images.shape[-1]
        if missing := -size % STRIDES[-1]:
            found = super().feature_maps(F.pad(images, (0, missing, 0, missing)))
            sides = (-(-size // stride) for stride in STRIDES)
            return [one[:, :, :side, :side] for one, side in zip(found, sides, strict=True)]
        return super().feature_maps(images)


def anchor_points(size: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Centres float32 [A,2] (x, y; pixels) and strides float32 [A,1] of all places of a square input."""
    centres, strides = [], []
    for stride in STRIDES:
        line = (torch.arange(-(-size // stride), device=device) + 0.5) * stride
        y, x = torch.meshgrid(line, line, indexing="ij")
        centres.append(torch.stack([x, y], -1).view(-1, 2))
        strides.append(torch.full((len(line) ** 2, 1), float(stride), device=device))
    return torch.cat(centres), torch.cat(strides)


def corners(sides: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Boxes [N,A,4] xyxy in pixels from distances in strides."""
    distances = sides * strides
    return torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], -1)


def build_nanospot(config: ModelConfig, classes: int) -> PyramidDetector:
    """The network of a model config.

    Raises:
        ConfigError: its input size is no multiple of 32, or its backbone cannot be.
        ModelError: the pretrained weights of its backbone cannot be had.
    """
    expect_multiple(config, STRIDES[-1], "halves its input five times")
    args = cast(NanoSpotArgs, config.args)
    if args.backbone is None:
        return NanoSpot(classes, config.input_size, args)
    return CarryingNanoSpot(classes, config.input_size, build_backbone(args.backbone, STRIDES, config), args.neck)
