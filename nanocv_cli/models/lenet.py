"""LeNet for colour images: five strided convolutions and one linear layer.

After LeCun et al., Gradient-based learning applied to document recognition (Proc. IEEE 86, 1998). Differs from the
paper: 3x3 kernels of stride 2 in place of 5x5 kernels and pooling, batch normalisation and ReLU, one linear layer.
At 224x224 and 4 classes: 443,284 parameters; 126.5 MFLOPs (2 per multiply-add: 10.838 + 4 x 28.901 + 0.1).
"""

from itertools import pairwise

from torch import Tensor, nn

CHANNELS = (3, 16, 32, 64, 128, 256)


class LeNet(nn.Module):
    """Logits of one image size.

    Args:
        classes: number of classes.
        input_size: side of the square input; a multiple of 32.
        dropout: probability before the linear layer.
    """

    def __init__(self, classes: int, input_size: int = 224, dropout: float = 0.0) -> None:
        super().__init__()
        self.features = nn.Sequential()
        for stage, (before, after) in enumerate(pairwise(CHANNELS), start=1):
            self.features.add_module(f"conv{stage}", nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False))
            self.features.add_module(f"norm{stage}", nn.BatchNorm2d(after))
            self.features.add_module(f"relu{stage}", nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear((input_size // 32) ** 2 * CHANNELS[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Maps normalised float [N, 3, S, S] to logits float [N, classes]."""
        logits: Tensor = self.classifier(self.dropout(self.features(images).flatten(1)))
        return logits
