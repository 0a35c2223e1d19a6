"""NanoSpot's own backbone: bottlenecks of dense 3x3 convolutions (arXiv:1512.03385) behind one large step."""

from torch import Tensor, nn

from nanocv_cli.models.backbones.base import Backbone

STEM_KERNEL = 7


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


class NanoSpotBackbone(Backbone):
    """Maps of strides 8, 16 and 32.

    Args:
        widths: channels at strides 4, 8, 16 and 32; even.
    """

    strides = (8, 16, 32)

    def __init__(self, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.channels = (second, third, fourth)
        # One step to a quarter of the size: maps at half of it would cost a CPU more than all their worth.
        self.stem = convolution(3, first, STEM_KERNEL, stride=4)
        self.fine = nn.Sequential(convolution(first, second, stride=2), Bottleneck(second))
        self.middle = nn.Sequential(convolution(second, third, stride=2), Bottleneck(third), Bottleneck(third))
        self.coarse = nn.Sequential(convolution(third, fourth, stride=2), Bottleneck(fourth))

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """See `Backbone`."""
        fine = self.fine(self.stem(images))
        middle = self.middle(fine)
        return [fine, middle, self.coarse(middle)]
