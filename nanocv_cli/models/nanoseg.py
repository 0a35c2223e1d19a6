"""NanoSeg: a small encoder-decoder that labels pixels, trained from scratch on a CPU.

A backbone (its own, `backbones/nanoseg.py`, or another) to a sixteenth of the size, the whole image's mean as
context for its last map (squeeze-and-excitation, arXiv:1709.01507, as in LR-ASPP, arXiv:1905.02244), and a decoder that
adds the backbone's finer maps on the way up (arXiv:1612.03144). Labels are found at a quarter of the size and enlarged.
At 256x256 and 5 classes: 0.41 M parameters, 0.75 GFLOPs.
"""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.models.arguments import NanoSegArgs
from nanocv_cli.models.backbones.base import Backbone, Carrier
from nanocv_cli.models.backbones.nanoseg import NanoSegBackbone
from nanocv_cli.models.backbones.nanospot import convolution
from nanocv_cli.models.backbones.table import build_backbone

STRIDES = NanoSegBackbone.strides
DEFAULT = NanoSegArgs()


class Decoder(Backbone):
    """Logits of every pixel, from the maps of a backbone that a class adds."""

    def add_decoder(self, classes: int, args: NanoSegArgs) -> None:
        """Adds what looks at the maps.

        Args:
            classes: number of classes.
            args: width and dropout of the decoder.
        """
        (quarter, eighth, sixteenth), decoder = self.channels, args.decoder
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
        fine, middle, coarse = self.feature_maps(images)
        decoded = self.reduce(coarse) * self.context(coarse)
        decoded = self.blend_middle(self.lateral_middle(middle) + _enlarged(decoded, middle))
        decoded = self.blend_fine(self.lateral_fine(fine) + _enlarged(decoded, fine))
        return _enlarged(self.classifier(self.dropout(decoded)), images)


class NanoSeg(NanoSegBackbone, Decoder):
    """A segmenter with NanoSeg's own backbone.

    Args:
        classes: number of classes.
        args: widths and dropout.
    """

    def __init__(self, classes: int, args: NanoSegArgs = DEFAULT) -> None:
        super().__init__(args.stem, args.widths)
        self.add_decoder(classes, args)


class CarryingNanoSeg(Carrier, Decoder):
    """The same segmenter on a backbone that it carries.

    Args:
        classes: number of classes.
        backbone: with maps of strides 4, 8 and 16.
        args: width and dropout of the decoder.
    """

    def __init__(self, classes: int, backbone: Backbone, args: NanoSegArgs) -> None:
        super().__init__(backbone)
        self.add_decoder(classes, args)


def _enlarged(features: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(features, size=like.shape[2:], mode="bilinear", align_corners=False)


def build_nanoseg(config: ModelConfig, classes: int) -> Decoder:
    """The network of a model config, for images of any size.

    Raises:
        ConfigError: its backbone cannot be.
        ModelError: the pretrained weights of its backbone cannot be had.
    """
    args = cast(NanoSegArgs, config.args)
    if args.backbone is None:
        return NanoSeg(classes, args)
    return CarryingNanoSeg(classes, build_backbone(args.backbone, STRIDES, config), args)
