"""Decode once: one split of a set at one size as a uint8 memory map, made at first use and then only mapped."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.data.dataset import Sample
from nanocv_cli.errors import DataError, StorageError
from nanocv_cli.files import folder_beside, write_json
from nanocv_cli.inference.images import UnreadableImageError, open_image, resize_to_square

Progress = Callable[[int, int], None]

# Raised whenever a picture would be decoded or resized differently: older caches are then made anew.
FORMAT = 1


@dataclass(frozen=True)
class CachedSplit:
    """The readable pictures of a split.

    Attributes:
        images: uint8 [n, size, size, 3] RGB, memory-mapped read-only.
        kept: for each image, its index in the samples that the cache was asked for.
        unreadable: path and reason of the samples that could not be decoded.
    """

    images: NDArray[np.uint8]
    kept: tuple[int, ...]
    unreadable: tuple[tuple[str, str], ...]


def cached_split(
    folder: Path, samples: Sequence[Sample[Any]], size: int, resize: str, progress: Progress | None = None
) -> CachedSplit:
    """Maps the cache of `samples`, decoding them first where there is none yet.

    The key covers every file's path, length and time of change, so an edited set is decoded anew. A cache appears
    under its name only when whole: a run that was killed while writing leaves nothing that could be mistaken for it.

    Args:
        folder: where caches are kept.
        samples: pictures of one split.
        size: side of the cached square, pixels.
        resize: how a picture becomes that square (`crop` or `stretch`).
        progress: called with (done, total) as pictures are decoded.

    Raises:
        DataError: not one picture is readable.
        StorageError: the cache cannot be written.
    """
    entry = folder / _key(samples, size, resize)
    if not (entry / "index.json").is_file():
        _decode_all(entry, samples, size, resize, progress)
    index = json.loads((entry / "index.json").read_text())
    images = np.memmap(entry / "images.u8", np.uint8, "r", shape=(len(index["kept"]), size, size, 3))
    return CachedSplit(images, tuple(index["kept"]), tuple((p, reason) for p, reason in index["unreadable"]))


def _key(samples: Sequence[Sample[Any]], size: int, resize: str) -> str:
    digest = hashlib.sha256(f"{FORMAT} {size} {resize}".encode())
    for sample in samples:
        try:
            state = sample.path.stat()
        except OSError as error:
            raise DataError(
                f"cannot read {sample.path}: {error.strerror}", "nanocv data check names every problem"
            ) from error
        digest.update(f"{sample.path.resolve()}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:24]


def _decode_all(entry: Path, samples: Sequence[Sample[Any]], size: int, resize: str, progress: Progress | None) -> None:
    try:
        with folder_beside(entry) as temporary:
            kept, unreadable = _write_images(temporary / "images.u8", samples, size, resize, progress)
            if not kept:
                raise DataError(
                    f"not one of {len(samples)} pictures is readable, e.g. {unreadable[0][0]}: {unreadable[0][1]}",
                    "nanocv data check names every problem",
                )
            write_json(temporary / "index.json", {"kept": kept, "unreadable": unreadable})
            if not entry.exists():  # another run may have made the same cache meanwhile
                temporary.replace(entry)
    except StorageError as error:
        raise StorageError(
            f"the picture cache: {error.message}", "free some space, or set NANOCV_CACHE to a folder you can write to"
        ) from error


def _write_images(
    target: Path, samples: Sequence[Sample[Any]], size: int, resize: str, progress: Progress | None
) -> tuple[list[int], list[tuple[str, str]]]:
    def decode(sample: Sample[Any]) -> bytes | str:
        try:
            return resize_to_square(open_image(sample.path), size, resize).tobytes()
        except UnreadableImageError as error:
            return error.message

    kept: list[int] = []
    unreadable: list[tuple[str, str]] = []
    workers = os.cpu_count() or 1
    # Chunks bound the decoded pictures that wait for the disk; Pillow decodes outside Python's global lock.
    chunk = 64 * workers
    with target.open("wb") as file, ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(samples), chunk):
            for offset, decoded in enumerate(pool.map(decode, samples[start : start + chunk])):
                if isinstance(decoded, str):
                    unreadable.append((str(samples[start + offset].path), decoded))
                else:
                    kept.append(start + offset)
                    file.write(decoded)
                if progress:
                    progress(start + offset + 1, len(samples))
        file.flush()
        os.fsync(file.fileno())
    return kept, unreadable
