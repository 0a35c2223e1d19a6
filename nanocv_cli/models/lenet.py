"""LeNet for colour images: five strided convolutions and one linear layer.

After LeCun et al., Gradient-based learning applied to document recognition (Proc. IEEE 86, 1998). Differs from the
paper: 3x3 kernels of stride 2 in place of 5x5 kernels and pooling, batch normalisation and ReLU, one linear layer.
At 224x224 and 4 classes: 443,284 parameters; 126.5 MFLOPs (2 per multiply-add: 10.838 + 4 x 28.901 + 0.1).
"""

from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.models.arguments import LeNetArgs
from nanocv_cli.models.registry import expect_multiple

DEFAULT = LeNetArgs()


class LeNet(nn.Module):
    """Logits of one image size.

    Args:
        classes: number of classes.
        input_size: side of the square input; a multiple of 32.
        args: widths, kernel and dropout.
    """

    def __init__(self, classes: int, input_size: int = 224, args: LeNetArgs = DEFAULT) -> None:
        super().__init__()
        self.features = nn.Sequential()
        for stage, (before, after) in enumerate(pairwise((3, *args.widths)), start=1):
            convolution = nn.Conv2d(before, after, args.kernel, stride=2, padding=args.kernel // 2, bias=False)
            self.features.add_module(f"conv{stage}", convolution)
            self.features.add_module(f"norm{stage}", nn.BatchNorm2d(after))
            self.features.add_module(f"relu{stage}", nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(args.dropout)
        self.classifier = nn.Linear((input_size // 32) ** 2 * args.widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Maps normalised float [N, 3, S, S] to logits float [N, classes]."""
        logits: Tensor = self.classifier(self.dropout(self.features(images).flatten(1)))
        return logits


def build_lenet(config: ModelConfig, classes: int) -> LeNet:
    """The network of a model config.

    Raises:
        ConfigError: its input size is no multiple of 32, as for all that halve their input five times.
    """
    expect_multiple(config, 32, "halves its input five times")
    return LeNet(classes, config.input_size, cast(LeNetArgs, config.args))
