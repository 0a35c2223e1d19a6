"""Comparing checkpoints bit by bit."""

from pathlib import Path

import safetensors.torch
import torch


def same_weights(first: Path, second: Path) -> bool:
    """Whether two checkpoints hold bit-identical tensors."""
    left, right = (safetensors.torch.load_file(path) for path in (first, second))
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
