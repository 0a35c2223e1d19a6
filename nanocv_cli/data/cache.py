"""The images of a split, decoded once into a cache of rows, which is then only mapped."""

import errno
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.data.dataset import Sample, Samples
from nanocv_cli.data.row_cache import NothingKeptError, Progress, Say, cached_array
from nanocv_cli.errors import DataError
from nanocv_cli.images.resize import UnreadableImageError, open_square

# Raised whenever an image would be decoded or resized differently: older caches are then made anew.
FORMAT = 4
# Not the image's fault: a disk, a share or this process's limits, and next time it may be read.
PASSING = {
    *(errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE),
    *(errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN),
}


@dataclass(frozen=True)
class CachedSplit:
    """The images of a split.

    Attributes:
        rows: uint8 [n, size, size, 3] RGB, one for each sample, memory-mapped read-only.
        kept: int64, the samples that could be decoded; None: all.
        unreadable: path and reason of the others, whose rows mean nothing.
    """

    rows: NDArray[np.uint8]
    kept: NDArray[np.int64] | None
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

    The key covers every file's path, length and time of change, so an edited set is decoded anew.

    Args:
        folder: where caches are kept.
        samples: images of one split.
        size: side of the cached square, pixels.
        resize: how an image becomes that square (`crop` or `stretch`).
        progress: called with (done, total) as images are decoded.
        say: is told of a damaged or unfinished cache.

    Raises:
        DataError: not one image is readable; one that was listed has gone, or its disk does not answer.
        StorageError: the cache cannot be read or written.
    """

    listed = Samples.of(samples)
    missing = functools.cache(listed.paths.missing)

    def decode(sample: Sample[Any]) -> NDArray[np.uint8] | str:
        try:
            return open_square(sample.image(), size, resize)[0]
        except UnreadableImageError as error:
            number = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
            if number in PASSING and sample.path not in missing():
                raise DataError(
                    f"{sample.path} was there when the set was listed, and cannot be read now: {error.message}",
                    "bring the set back, or remove that image, then run the command again",
                ) from error
            return error.message

    try:
        entry = cache_entry(folder, listed, size, resize)
        rows, left_out = cached_array(entry, samples, (size, size, 3), decode, "the image cache", progress, say)
    except NothingKeptError as error:
        raise DataError(
            f"not one of {len(samples)} images is readable, e.g. {listed.paths.shown(0)}: {error.reason}",
            "nanocv data check names every problem",
        ) from error
    kept = np.delete(np.arange(len(samples)), [place for place, _ in left_out]) if left_out else None
    return CachedSplit(rows, kept, tuple((listed.paths.shown(place), reason) for place, reason in left_out))


def cache_entry(folder: Path, samples: Sequence[Sample[Any]], size: int, resize: str) -> Path:
    """Where the images of a split are kept, in a folder of caches; see `cached_split`."""
    digest = hashlib.sha256(f"{FORMAT} {size} {resize}".encode())
    digest.update(Samples.of(samples).paths.digest())
    return folder / digest.hexdigest()[:24]
