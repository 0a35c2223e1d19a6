"""NanoFlow: a class-conditional velocity field for flow matching, small enough to learn on a CPU.

A U-Net of residual blocks (DDPM, arXiv:2006.11239) on a 16x16 and an 8x8 grid with one self-attention at 8x8; time and
class scale and shift every block's features (arXiv:2105.05233). Images enter as patches (space to depth), so that
64x64 costs hardly more than 32x32. It learns the velocity of straight paths from noise to images (flow matching,
arXiv:2210.02747; rectified flow, arXiv:2209.03003).
At 32x32 and 4 classes: 2.2 M parameters, 0.37 GFLOPs for one evaluation.
"""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.models.arguments import NanoFlowArgs
from nanocv_cli.models.registry import expect_multiple

GRID = 16
FREQUENCIES = 32
GROUPS = 8
HEADS = 4
DEFAULT = NanoFlowArgs()


class NanoFlow(nn.Module):
    """The velocity of noisy images.

    Args:
        classes: number of classes; the label -1 stands for none of them.
        size: side of the images, pixels: a multiple of 16.
        args: widths, depth and embedding.
    """

    def __init__(self, classes: int, size: int, args: NanoFlowArgs = DEFAULT) -> None:
        super().__init__()
        patch = size // GRID
        (fine, coarse), embedding = args.widths, args.embedding
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.label = nn.Embedding(classes + 1, embedding)
        self.patches = nn.PixelUnshuffle(patch)
        self.stem = nn.Conv2d(3 * patch * patch, fine, 3, padding=1)
        self.down_fine = _blocks(fine, args)
        self.down = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.down_coarse = _blocks(coarse, args)
        self.attention = Attention(coarse)
        self.up_coarse = _blocks(coarse, args)
        self.up = nn.Conv2d(coarse, fine, 3, padding=1)
        self.up_fine = _blocks(fine, args)
        last = nn.Conv2d(fine, 3 * patch * patch, 3, padding=1)
        self.head = nn.Sequential(nn.GroupNorm(GROUPS, fine), nn.SiLU(), last, nn.PixelShuffle(patch))
        _begin_at_zero(last)

    def forward(self, images: Tensor, time: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Maps noisy images float [N,3,S,S], times float [N] in 0..1 and labels int64 [N] to velocities [N,3,S,S].

        Without times they are those of noise, 0; without labels they are those of no class.
        """
        count = images.shape[0]
        time = images.new_zeros(count) if time is None else time
        labels = torch.full((count,), -1, device=images.device) if labels is None else labels
        embedded = F.silu(self.time(_waves(time).to(images.dtype)) + self.label(labels + 1))
        fine = self.stem(self.patches(images))
        for block in self.down_fine:
            fine = block(fine, embedded)
        coarse = self.down(fine)
        for block in self.down_coarse:
            coarse = block(coarse, embedded)
        skipped, coarse = coarse, self.attention(coarse)
        for block in self.up_coarse:
            coarse = block(coarse, embedded)
        fine = fine + self.up(F.interpolate(coarse + skipped, scale_factor=2.0, mode="nearest"))
        for block in self.up_fine:
            fine = block(fine, embedded)
        velocity: Tensor = self.head(fine)
        return velocity


def _blocks(channels: int, args: NanoFlowArgs) -> nn.ModuleList:
    return nn.ModuleList(Block(channels, args.embedding) for _ in range(args.depth))


class Block(nn.Module):
    """Two convolutions whose input and middle are normalised; the embedding scales and shifts the middle."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.before = nn.GroupNorm(GROUPS, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.between = nn.GroupNorm(GROUPS, channels)
        self.modulation = nn.Linear(embedding, 2 * channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        _begin_at_zero(self.second)

    def forward(self, features: Tensor, embedded: Tensor) -> Tensor:
        scale, shift = self.modulation(embedded).unsqueeze(-1).unsqueeze(-1).chunk(2, 1)
        middle = self.between(self.first(F.silu(self.before(features)))) * (1.0 + scale) + shift
        summed: Tensor = features + self.second(F.silu(middle))
        return summed


class Attention(nn.Module):
    """Self-attention between the places of a map (arXiv:1706.03762), added to it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.mixed = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        _begin_at_zero(self.out)

    def forward(self, features: Tensor) -> Tensor:
        count, channels, height, width = features.shape
        places = self.norm(features).flatten(2).transpose(1, 2)
        split = self.mixed(places).view(count, height * width, 3, HEADS, channels // HEADS).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(split[0], split[1], split[2])
        joined = self.out(found.transpose(1, 2).reshape(count, height * width, channels))
        summed: Tensor = features + joined.transpose(1, 2).reshape(count, channels, height, width)
        return summed


def _begin_at_zero(layer: nn.Conv2d | nn.Linear) -> None:
    """What is added to a shortcut begins as nothing, so that the network begins simple."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _waves(time: Tensor) -> Tensor:
    """Sines and cosines of times [N] in 0..1 at frequencies from 1 to 1000, float32 [N, 2 x FREQUENCIES]."""
    powers = torch.arange(FREQUENCIES, device=time.device, dtype=torch.float32) / (FREQUENCIES - 1)
    angles = time.float().unsqueeze(1) * torch.exp(powers * math.log(1000.0))
    return torch.cat([angles.sin(), angles.cos()], 1)


def build_nanoflow(config: ModelConfig, classes: int) -> NanoFlow:
    """The network of a model config.

    Raises:
        ConfigError: its image size is no multiple of 16.
    """
    expect_multiple(config, 16, "works on a grid of 16x16 patches")
    return NanoFlow(classes, config.input_size, cast(NanoFlowArgs, config.args))
