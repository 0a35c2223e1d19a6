"""NanoSpot: a small anchor-free detector that trains from scratch on a CPU.

One prediction per place of three feature maps, as in FCOS (arXiv:1904.01355): class scores and the distances to the
four sides. A residual backbone of dense 3x3 convolutions (arXiv:1512.03385), a top-down and bottom-up pyramid
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
from nanocv_cli.models.dense_detection import CANDIDATES, DETECTIONS, Losses, best_detections, detection_losses
from nanocv_cli.models.registry import expect_multiple

STRIDES = (8, 16, 32)
STEM_KERNEL = 7
DEFAULT = NanoSpotArgs()
SMALLEST_SCORE = 0.01  # that a fresh network gives to every class, so that the many empty places do not flood the loss
TYPICAL_SIDES = 2.0  # distance, in strides, that a fresh network answers


def convolution(before: int, after: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


class Bottleneck(nn.Module):
    """Half as many channels by 1x1, back by 3x3, added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.narrow = convolution(width, width // 2, 1)
        self.widen = convolution(width // 2, width)

    def forward(self, features: Tensor) -> Tensor:
        """Maps [N,width,H,W] to the same shape."""
        added: Tensor = features + self.widen(self.narrow(features))
        return added


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


class NanoSpot(nn.Module):
    """Boxes, scores and labels of square images.

    Args:
        classes: number of classes.
        input_size: side of the square input; a multiple of 32.
        args: widths of backbone and neck.
    """

    centres: Tensor
    strides: Tensor

    def __init__(self, classes: int, input_size: int = 320, args: NanoSpotArgs = DEFAULT) -> None:
        super().__init__()
        self.input_size = input_size
        first, second, third, fourth = args.widths
        # One step to a quarter of the size: maps at half of it would cost a CPU more than all their worth.
        self.stem = convolution(3, first, STEM_KERNEL, stride=4)
        self.fine = nn.Sequential(convolution(first, second, stride=2), Bottleneck(second))
        self.middle = nn.Sequential(convolution(second, third, stride=2), Bottleneck(third), Bottleneck(third))
        self.coarse = nn.Sequential(convolution(third, fourth, stride=2), Bottleneck(fourth))
        self.pyramid = Pyramid((second, third, fourth), args.neck)
        self.heads = nn.ModuleList(Head(classes, args.neck) for _ in STRIDES)
        centres, strides = anchor_points(input_size)
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

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
            anchors = (self.centres, self.strides) if size == self.input_size else anchor_points(size, images.device)
            return detection_losses(logits, corners(sides, *anchors), targets, *anchors, float(size))
        boxes = corners(sides, self.centres, self.strides) / self.input_size
        return best_detections(boxes.clamp(0.0, 1.0), logits.sigmoid(), CANDIDATES, DETECTIONS)

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N,A,classes] and distances [N,A,4] in strides, of all places, fine level first; float32."""
        fine = self.fine(self.stem(images))
        middle = self.middle(fine)
        maps = self.pyramid([fine, middle, self.coarse(middle)])
        found = [head(features) for head, features in zip(self.heads, maps, strict=True)]
        return torch.cat([logits for logits, _ in found], 1).float(), torch.cat([sides for _, sides in found], 1)


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


def build_nanospot(config: ModelConfig, classes: int) -> NanoSpot:
    """The network of a model config.

    Raises:
        ConfigError: its input size is no multiple of 32.
    """
    expect_multiple(config, 32, "halves its input five times")
    return NanoSpot(classes, config.input_size, cast(NanoSpotArgs, config.args))
