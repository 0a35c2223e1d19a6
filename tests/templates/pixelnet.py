"""PixelNet: a linear classifier of an image's mean colour.

A perceptron (Rosenblatt, Psychological Review 65, 1958) on three numbers: 3 x classes weights, as many multiply-adds.
"""

from torch import Tensor, nn

from nanocv_cli.config.schema import ModelConfig


class PixelNet(nn.Module):
    """Logits of images of any size.

    Args:
        classes: number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(3, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Maps normalised float [N,3,S,S] to logits float [N,classes]."""
        logits: Tensor = self.classifier(images.mean((2, 3)))
        return logits


def build_pixelnet(config: ModelConfig, classes: int) -> PixelNet:
    """The network of a model config, for images of any size."""
    return PixelNet(classes)
