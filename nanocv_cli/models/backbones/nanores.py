"""NanoRes' backbone: residual stages of dense 3x3 convolutions, each at half of the size of the one before.

After He et al., Deep residual learning (arXiv:1512.03385) with the stem and pooled shortcuts of ResNet-D
(arXiv:1812.01187). Dense 3x3 convolutions only: on CPUs they run nearer to the machine's peak than depthwise ones.
"""

from torch import Tensor, nn

from nanocv_cli.models.arguments import NanoResArgs
from nanocv_cli.models.backbones.base import Backbone

FIRST_STRIDE = 4  # of the stem and the first stage


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


class NanoResBackbone(Backbone):
    """A map of each stage: strides 4, 8, 16, ...

    Args:
        args: widths and depth.
        strides: of the maps to give, 4 or more; None: of all stages that `args` has widths for.
    """

    def __init__(self, args: NanoResArgs, strides: tuple[int, ...] | None = None) -> None:
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
        of_stages = tuple(FIRST_STRIDE << stage for stage in range(len(args.widths)))
        self.strides, self.depth = strides or of_stages, args.depth
        widths = dict(zip(of_stages, args.widths, strict=True))
        self.channels = tuple(widths[stride] for stride in self.strides)
        before = args.widths[0]
        for stage, width in enumerate(args.widths[: of_stages.index(self.strides[-1]) + 1]):
            self.stages.append(ResidualBlock(before, width, stride=1 if stage == 0 else 2))
            for _ in range(args.depth - 1):
                self.stages.append(ResidualBlock(width, width, stride=1))
            before = width

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """See `Backbone`."""
        features, maps, stride = self.stem(images), [], FIRST_STRIDE
        for number, block in enumerate(self.stages, 1):
            features = block(features)
            if number % self.depth == 0:
                maps += [features] if stride in self.strides else []
                stride *= 2
        return maps
