"""NanoSeg: a small encoder-decoder that labels pixels, trained from scratch on a CPU.

A residual encoder of dense 3x3 convolutions to a sixteenth of the size (arXiv:1512.03385), the whole image's mean as
context for its last map (squeeze-and-excitation, arXiv:1709.01507, as in LR-ASPP, arXiv:1905.02244), and a decoder that
adds the encoder's finer maps on the way up (arXiv:1612.03144). Labels are found at a quarter of the size and enlarged.
At 256x256 and 5 classes: 0.41 M parameters, 0.75 GFLOPs.
"""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.models.arguments import NanoSegArgs
from nanocv_cli.models.nanospot import Bottleneck, convolution

DEFAULT = NanoSegArgs()


class NanoSeg(nn.Module):
    """Logits of every pixel.

    Args:
        classes: number of classes.
        args: widths and dropout.
    """

    def __init__(self, classes: int, args: NanoSegArgs = DEFAULT) -> None:
        super().__init__()
        (quarter, eighth, sixteenth), decoder = args.widths, args.decoder
        self.stem = nn.Sequential(convolution(3, args.stem, stride=2), convolution(args.stem, quarter, stride=2))
        self.fine = Bottleneck(quarter)
        self.middle = nn.Sequential(convolution(quarter, eighth, stride=2), Bottleneck(eighth), Bottleneck(eighth))
        self.coarse = nn.Sequential(
            convolution(eighth, sixteenth, stride=2), Bottleneck(sixteenth), Bottleneck(sixteenth)
        )
        self.reduce = convolution(sixteenth, decoder, 1)
        self.context = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(sixteenth, decoder, 1), nn.Sigmoid())
        self.lateral_middle = convolution(eighth, decoder, 1)
        self.lateral_fine = convolution(quarter, decoder, 1)
        self.blend_middle = convolution(decoder, decoder)
        self.blend_fine = convolution(decoder, decoder)
        self.dropout = nn.Dropout2d(args.dropout)
        self.classifier = nn.Conv2d(decoder, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Maps normalised float [N,3,H,W] of any size to logits float [N,classes,H,W]."""
        fine = self.fine(self.stem(images))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        decoded = self.reduce(coarse) * self.context(coarse)
        decoded = self.blend_middle(self.lateral_middle(middle) + _enlarged(decoded, middle))
        decoded = self.blend_fine(self.lateral_fine(fine) + _enlarged(decoded, fine))
        return _enlarged(self.classifier(self.dropout(decoded)), images)


def _enlarged(features: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(features, size=like.shape[2:], mode="bilinear", align_corners=False)


def build_nanoseg(config: ModelConfig, classes: int) -> NanoSeg:
    """The network of a model config, for images of any size."""
    return NanoSeg(classes, cast(NanoSegArgs, config.args))
