"""Decode once: one split of a set at one size as a uint8 memory map, made at first use and then only mapped."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.data.cached_array import NothingKeptError, Progress, Say, cached_array
from nanocv_cli.data.contents import file_state
from nanocv_cli.data.dataset import Sample
from nanocv_cli.errors import DataError
from nanocv_cli.images.resize import UnreadableImageError, open_square

# Raised whenever an image would be decoded or resized differently: older caches are then made anew.
FORMAT = 2


@dataclass(frozen=True)
class CachedSplit:
    """The readable images of a split.

    Attributes:
        images: uint8 [n, size, size, 3] RGB, memory-mapped read-only.
        kept: for each image, its index in the samples that the cache was asked for.
        unreadable: path and reason of the samples that could not be decoded.
    """

    images: NDArray[np.uint8]
    kept: tuple[int, ...]
    unreadable: tuple[tuple[str, str], ...]


def cached_split(
    folder: Path,
    samples: Sequence[Sample[Any]],
    size: int,
    resize: str,
    progress: Progress | None = None,
    say: Say | None = None,
) -> CachedSplit:
    """Maps the cache of `samples`, decoding them first where there is none yet, or where it was damaged.

    The key covers every file's path, length and time of change, so an edited set is decoded anew. A cache appears
    under its name only when whole: a run that was killed while writing leaves nothing that could be mistaken for it.

    Args:
        folder: where caches are kept.
        samples: images of one split.
        size: side of the cached square, pixels.
        resize: how an image becomes that square (`crop` or `stretch`).
        progress: called with (done, total) as images are decoded.
        say: is told of a damaged cache.

    Raises:
        DataError: not one image is readable.
        StorageError: the cache cannot be read or written.
    """

    def decode(sample: Sample[Any]) -> NDArray[np.uint8] | str:
        try:
            return open_square(sample.path, size, resize)[0]
        except UnreadableImageError as error:
            return error.message

    entry = folder / _key(samples, size, resize)
    try:
        images, index = cached_array(entry, samples, (size, size, 3), decode, "the image cache", progress, say)
    except NothingKeptError as error:
        raise DataError(
            f"not one of {len(samples)} images is readable, e.g. {samples[0].path}: {error.reason}",
            "nanocv data check names every problem",
        ) from error
    unreadable = tuple((str(samples[place].path), reason) for place, reason in index.left_out)
    return CachedSplit(images, tuple(index.kept), unreadable)


def _key(samples: Sequence[Sample[Any]], size: int, resize: str) -> str:
    digest = hashlib.sha256(f"{FORMAT} {size} {resize}".encode())
    for sample in samples:
        digest.update(f"{file_state(sample.path)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:24]
