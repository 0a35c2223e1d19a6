"""A small network that sums what it finds all over an image."""

import torch.nn.functional as F
from torch import Tensor, nn

from nanocv_cli.config.schema import ModelConfig


class Counter(nn.Module):
    """Counts float32 [N] of normalised images float [N,3,S,S]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 1, 3, 2, 1),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        return F.softplus(self.features(images).float() - 2.0).sum((1, 2, 3))


def build_counter(config: ModelConfig, classes: int) -> nn.Module:
    return Counter()
