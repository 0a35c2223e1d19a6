"""Shuffled batches whose order and randomness depend only on seed, epoch and step, never on what ran before."""

import warnings
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray


def generator_for(seed: int, epoch: int, step: int = 0) -> torch.Generator:
    """A CPU generator that is a pure function of its arguments, so a resumed run draws what the first one drew."""
    mixed = np.random.SeedSequence((seed, epoch, step)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed) & (2**63 - 1))


def drawn_order(weights: NDArray[np.float64], generator: torch.Generator) -> NDArray[np.int64]:
    """The images of one epoch, as many as there are, shuffled; a pure function of weights and generator.

    An image that is due w times comes floor(w) or ceil(w) times (systematic sampling), so that a common class is gone
    through without repetition.

    Returns:
        int64 [n], places of images.
    """
    order = torch.randperm(len(weights), generator=generator).numpy()
    due = np.cumsum(weights[order])
    offset = torch.rand(1, generator=generator, dtype=torch.float64).item()
    ends = np.floor(due * (len(weights) / due[-1]) + offset).astype(np.int64)
    ends[-1] = len(weights)
    chosen = np.repeat(order, np.diff(ends, prepend=0))
    found: NDArray[np.int64] = chosen[torch.randperm(len(chosen), generator=generator).numpy()]
    return found


class Images(Protocol):
    """The images of a split, decoded before or when they are asked for."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, places: Any, /) -> NDArray[np.uint8]:
        """Those at a place, a slice or an array of places, as an array of uint8 [S,S,3] or [k,S,S,3]."""

    def gather(self, batches: Iterable[NDArray[np.int64]]) -> Iterator[tuple[torch.Tensor, NDArray[np.int64]]]:
        """For each array of places, its images in that order: uint8 [B,S,S,3] on the CPU, and the places they are of.

        Those differ from what was asked for where another image stands in for one that cannot be read.
        """


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

    def gather(self, batches: Iterable[NDArray[np.int64]]) -> Iterator[tuple[torch.Tensor, NDArray[np.int64]]]:
        with warnings.catch_warnings():
            # A read-only memory map must not be written through the tensor, and it is only gathered from.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            rows = torch.from_numpy(self.rows)
        for places in batches:
            # Unlike NumPy's indexing, this gathers with all cores.
            own = torch.from_numpy(places if self.places is None else self.places[places])
            # A process that uses a GPU gathers into memory that the GPU copies from.
            is_pinned = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
            gathered = torch.empty((len(own), *rows.shape[1:]), dtype=rows.dtype, pin_memory=is_pinned)
            yield torch.index_select(rows, 0, own, out=gathered), places


@dataclass(frozen=True)
class Share:
    """Which images of a step's batch are worked on together: those of one process, or of one of its micro-batches.

    What a step draws is drawn for the whole batch, everywhere alike, and each share takes its own of it: an image is
    augmented in the same way however many processes and micro-batches there are.

    Attributes:
        first: place of the first of them in the batch.
        count: of them; after the last image of the batch comes its first.
        total: images in the batch.
    """

    first: int
    count: int
    total: int

    @property
    def places(self) -> list[int]:
        """Of its images in the batch."""
        return [place % self.total for place in range(self.first, self.first + self.count)]

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """Its rows [count,...] of those of the whole batch [total,...]."""
        end = self.first + self.count
        if end <= self.total:
            return rows[self.first : end]
        return torch.cat([rows[self.first :], rows[: end - self.total]])

    def parts(self, number: int) -> "list[Share]":
        """The share in so many parts, which differ by one image at most."""
        bounds = [self.count * part // number for part in range(number + 1)]
        return [Share(self.first + start, end - start, self.total) for start, end in pairwise(bounds)]


@dataclass(frozen=True)
class Batches:
    """Shuffled full batches of a split; a split smaller than one batch is one batch.

    Attributes:
        images: n of them.
        targets: [n, ...] one row per image.
        batch_size: images per batch, over all processes together.
        seed: of the shuffle.
        rank: which share of each batch this process reads.
        world: how many processes share a batch.
        is_whole: whether each process reads the whole batch, because images take parts of one another.
        weights: float64 [n], how often each image is drawn beside others; None: each comes once.
    """

    images: Images
    targets: NDArray[np.generic]
    batch_size: int
    seed: int
    rank: int = 0
    world: int = 1
    is_whole: bool = False
    weights: NDArray[np.float64] | None = None

    @property
    def per_epoch(self) -> int:
        """Batches in one epoch."""
        return max(1, len(self.images) // self.batch_size)

    @property
    def share(self) -> Share:
        """This process's share of each batch."""
        total = min(self.batch_size, len(self.images))
        return Share(0, total, total).parts(self.world)[self.rank]

    def images_seen(self, epochs: int, steps: int = 0) -> int:
        """Images that all processes together have learnt from after whole epochs and steps of the next one."""
        return (epochs * self.per_epoch + steps) * self.share.total

    def epoch(self, epoch: int, first: int = 0) -> Generator[tuple[torch.Tensor, torch.Tensor], None, None]:
        """Yields (images uint8 [B,S,S,3], targets [B,...]) on the CPU, from batch `first` of the epoch on.

        Those of this process's share, or of the whole batch.
        """
        begin, count = (0, self.share.total) if self.is_whole else (self.share.first, self.share.count)
        generator = generator_for(self.seed, epoch)
        if self.weights is None:
            order = torch.randperm(len(self.images), generator=generator).numpy()
        else:
            order = drawn_order(self.weights, generator)
        starts = [step * self.batch_size + begin for step in range(first, self.per_epoch)]
        batches = [order[start : start + count] for start in starts]
        for images, places in self.images.gather(batches):
            yield images, torch.from_numpy(self.targets[places])
