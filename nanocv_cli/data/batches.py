"""Shuffled batches whose order and randomness depend only on seed, epoch and step, never on what ran before."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray


def generator_for(seed: int, epoch: int, step: int = 0) -> torch.Generator:
    """A CPU generator that is a pure function of its arguments, so a resumed run draws what the first one drew."""
    mixed = np.random.SeedSequence((seed, epoch, step)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed) & (2**63 - 1))


class Images(Protocol):
    """The images of a split, decoded before or when they are asked for."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, places: Any, /) -> NDArray[np.uint8]:
        """Those at a place, a slice or an array of places, as an array of uint8 [S,S,3] or [k,S,S,3]."""

    def gather(self, batches: Iterable[NDArray[np.int64]]) -> Iterator[torch.Tensor]:
        """For each array of places, its images in that order: uint8 [B,S,S,3] on the CPU."""


@dataclass(frozen=True)
class CachedImages:
    """Decoded images that lie in an array; see `Images`.

    Attributes:
        rows: uint8 [m,S,S,3], usually memory-mapped read-only.
        places: int64 [n], the rows that hold images; None: all do.
    """

    rows: NDArray[np.uint8]
    places: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.rows if self.places is None else self.places)

    def __getitem__(self, places: Any, /) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] = self.rows[places if self.places is None else self.places[places]]
        return found

    def gather(self, batches: Iterable[NDArray[np.int64]]) -> Iterator[torch.Tensor]:
        with warnings.catch_warnings():
            # A read-only memory map must not be written through the tensor, and it is only gathered from.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            rows = torch.from_numpy(self.rows)
        for places in batches:
            # Unlike NumPy's indexing, this gathers with all cores.
            yield rows.index_select(0, torch.from_numpy(places if self.places is None else self.places[places]))


@dataclass(frozen=True)
class Batches:
    """Shuffled full batches of a split; a split smaller than one batch is one batch.

    Attributes:
        images: n of them.
        targets: [n, ...] one row per image.
        batch_size: images per batch.
        seed: of the shuffle.
        rank: which share of each epoch this process reads.
        world: how many processes share an epoch.
    """

    images: Images
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
        order = torch.randperm(len(self.images), generator=generator_for(self.seed, epoch)).numpy()
        starts = [(step * self.world + self.rank) * self.batch_size for step in range(first, self.per_epoch)]
        batches = [order[start : start + self.batch_size] for start in starts]
        for places, images in zip(batches, self.images.gather(batches), strict=True):
            yield images, torch.from_numpy(self.targets[places])
