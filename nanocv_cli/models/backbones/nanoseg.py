"""NanoSeg's own backbone: bottlenecks of dense 3x3 convolutions to a sixteenth of the size (arXiv:1512.03385)."""

from torch import Tensor, nn

from nanocv_cli.models.backbones.base import Backbone
from nanocv_cli.models.backbones.nanospot import Bottleneck, convolution


class NanoSegBackbone(Backbone):
    """Maps of strides 4, 8 and 16.

    Args:
        stem: channels after the first convolution.
        widths: channels at strides 4, 8 and 16; even.
    """

    strides = (4, 8, 16)

    def __init__(self, stem: int, widths: tuple[int, int, int]) -> None:
        super().__init__()
        quarter, eighth, sixteenth = self.channels = widths
        self.stem = nn.Sequential(convolution(3, stem, stride=2), convolution(stem, quarter, stride=2))
        self.fine = Bottleneck(quarter)
        self.middle = nn.Sequential(convolution(quarter, eighth, stride=2), Bottleneck(eighth), Bottleneck(eighth))
        self.coarse = nn.Sequential(
            convolution(eighth, sixteenth, stride=2), Bottleneck(sixteenth), Bottleneck(sixteenth)
        )

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """See `Backbone`."""
        fine = self.fine(self.stem(images))
        middle = self.middle(fine)
        return [fine, middle, self.coarse(middle)]
