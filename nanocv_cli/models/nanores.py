"""NanoRes: a small residual network for photographs, sized for a CPU.

After He et al., Deep residual learning (arXiv:1512.03385) with the stem and pooled shortcuts of ResNet-D
(arXiv:1812.01187). Dense 3x3 convolutions only: on CPUs they run nearer to the machine's peak than depthwise ones.
Reads any square size from 32 pixels on.
"""

from typing import cast

from torch import Tensor, nn

from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.models.arguments import NanoResArgs

DEFAULT = NanoResArgs()


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, average-pooled where the block halves the image."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        last_norm = nn.BatchNorm2d(after)
        # Each block starts as the identity, so that a deep stack trains at a high rate from the first step.
        nn.init.zeros_(last_norm.weight)
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            last_norm,
        )
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.AvgPool2d(stride, ceil_mode=True))
        if before != after:
            self.shortcut.append(nn.Conv2d(before, after, 1, bias=False))
            self.shortcut.append(nn.BatchNorm2d(after))

    def forward(self, features: Tensor) -> Tensor:
        """Maps [N, before, H, W] to [N, after, ceil(H/stride), ceil(W/stride)]."""
        summed: Tensor = self.body(features) + self.shortcut(features)
        return nn.functional.relu(summed)


class NanoRes(nn.Module):
    """Logits from images of any square size.

    Args:
        classes: number of classes.
        args: widths, depth and dropout.
    """

    def __init__(self, classes: int, args: NanoResArgs = DEFAULT) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, args.stem, 3, 2, 1, bias=False),
            nn.BatchNorm2d(args.stem),
            nn.ReLU(inplace=True),
            nn.Conv2d(args.stem, args.widths[0], 3, 2, 1, bias=False),
            nn.BatchNorm2d(args.widths[0]),
            nn.ReLU(inplace=True),
        )
        self.stages = nn.Sequential()
        before = args.widths[0]
        for stage, width in enumerate(args.widths):
            self.stages.append(ResidualBlock(before, width, stride=1 if stage == 0 else 2))
            for _ in range(args.depth - 1):
                self.stages.append(ResidualBlock(width, width, stride=1))
            before = width
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(args.dropout)
        self.classifier = nn.Linear(before, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Maps normalised float [N, 3, S, S] to logits float [N, classes]."""
        features = self.pool(self.stages(self.stem(images))).flatten(1)
        logits: Tensor = self.classifier(self.dropout(features))
        return logits


def build_nanores(config: ModelConfig, classes: int) -> NanoRes:
    """The network of a model config, for images of any size."""
    return NanoRes(classes, cast(NanoResArgs, config.args))
