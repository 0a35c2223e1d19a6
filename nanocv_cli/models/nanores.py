"""NanoRes: a small residual network for photographs, sized for a CPU.

Its backbone (`backbones/nanores.py`), the mean of its last map and one linear layer. Reads any square size from 32
pixels on.
"""

from typing import cast

from torch import Tensor, nn

from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.models.arguments import NanoResArgs
from nanocv_cli.models.backbones.nanores import NanoResBackbone

DEFAULT = NanoResArgs()


class NanoRes(NanoResBackbone):
    """Logits from images of any square size.

    Args:
        classes: number of classes.
        args: widths, depth and dropout.
    """

    def __init__(self, classes: int, args: NanoResArgs = DEFAULT) -> None:
        super().__init__(args)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(args.dropout)
        self.classifier = nn.Linear(args.widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Maps normalised float [N, 3, S, S] to logits float [N, classes]."""
        features = self.pool(self.stages(self.stem(images))).flatten(1)
        logits: Tensor = self.classifier(self.dropout(features))
        return logits


def build_nanores(config: ModelConfig, classes: int) -> NanoRes:
    """The network of a model config, for images of any size."""
    return NanoRes(classes, cast(NanoResArgs, config.args))
