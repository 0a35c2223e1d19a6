"""Shuffled batches whose order and randomness depend only on seed, epoch and step, never on what ran before."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


def generator_for(seed: int, epoch: int, step: int = 0) -> torch.Generator:
    """A CPU generator that is a pure function of its arguments, so a resumed run draws what the first one drew."""
    mixed = np.random.SeedSequence((seed, epoch, step)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed) & (2**63 - 1))


def _as_tensor(images: NDArray[np.uint8]) -> torch.Tensor:
    with warnings.catch_warnings():
        # A read-only memory map must not be written through the tensor, and it is only gathered from.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(images)


@dataclass(frozen=True)
class Batches:
    """Shuffled full batches of a split; a split smaller than one batch is one batch.

    Attributes:
        images: uint8 [n, S, S, 3], usually memory-mapped.
        targets: [n, ...] one row per image.
        batch_size: images per batch.
        seed: of the shuffle.
        rank: which share of each epoch this process reads.
        world: how many processes share an epoch.
    """

    images: NDArray[np.uint8]
    targets: NDArray[np.generic]
    batch_size: int
    seed: int
    rank: int = 0
    world: int = 1

    @property
    def per_epoch(self) -> int:
        """Batches in one epoch of this process."""
        return max(1, len(self.images) // (self.batch_size * self.world))

    def images_seen(self, epochs: int, steps: int = 0) -> int:
        """Images that all processes together have learnt from after whole epochs and steps of the next one."""
        return (epochs * self.per_epoch + steps) * self.batch_size * self.world

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yields (images uint8 [B,S,S,3], targets [B,...]) on the CPU, from batch `first` of the epoch on."""
        images = _as_tensor(self.images)
        order = torch.randperm(len(self.images), generator=generator_for(self.seed, epoch)).numpy()
        for step in range(first, self.per_epoch):
            start = (step * self.world + self.rank) * self.batch_size
            rows = order[start : start + self.batch_size]
            # Unlike NumPy's indexing, this gathers with all cores.
            yield images.index_select(0, torch.from_numpy(rows)), torch.from_numpy(self.targets[rows])
