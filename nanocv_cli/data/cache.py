"""Decode once: what takes long to make of a split is a uint8 memory map, made at first use and then only mapped.

An entry is a folder: `rows.u8`, the rows one after another, and `index.json`, which is written last and says which rows
they are. It appears under its name by one rename: whole or not there. It is looked at before use, and made anew if
damaged.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeInt

from nanocv_cli.data.dataset import Sample, Samples
from nanocv_cli.errors import DataError, StorageError
from nanocv_cli.files import folder_beside, write_json
from nanocv_cli.images.resize import UnreadableImageError, open_square
from nanocv_cli.machine import usable_processors
from nanocv_cli.untrusted import read_regular

# Raised whenever an image would be decoded or resized differently: older caches are then made anew.
FORMAT = 3

Progress = Callable[[int, int], None]
Say = Callable[[str], None]
Item = TypeVar("Item")

ROWS, INDEX = "rows.u8", "index.json"
LARGEST_INDEX = 1 << 30
HINT = "free some space, or set NANOCV_CACHE to a folder of your own"


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
    digest.update(Samples.of(samples).paths.digest())
    return digest.hexdigest()[:24]


class Index(BaseModel):
    """What stands in an entry.

    Attributes:
        bytes: length of `rows.u8`.
        kept: for each row, the place of its item among those that were asked for.
        left_out: the places of the others, and why each has no row.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    bytes: NonNegativeInt
    kept: list[NonNegativeInt]
    left_out: list[tuple[NonNegativeInt, str]]


class NothingKeptError(DataError):
    """Not one item has a row.

    Args:
        reason: why the first one has none.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"nothing can be kept: {reason}", "nanocv data check names every problem")
        self.reason = reason


class _Damaged(Exception):
    """An entry that is not what was written."""


def cached_array(
    entry: Path,
    items: Sequence[Item],
    shape: tuple[int, ...],
    make: Callable[[Item], NDArray[np.uint8] | str],
    what: str,
    progress: Progress | None = None,
    say: Say | None = None,
) -> tuple[NDArray[np.uint8], Index]:
    """Maps an entry, making it first where there is none, or where it was damaged, which is said.

    Args:
        entry: its folder; the name must change with whatever decides the rows.
        items: what rows are made of, several at a time.
        shape: of a row.
        make: the row of an item, uint8 of that shape, or why it has none.
        what: its name in messages: `the image cache`.
        progress: called with (done, total) while rows are made.
        say: is told in one line if the entry was damaged.

    Returns:
        uint8 [n, *shape], mapped read-only, and which rows they are.

    Raises:
        NothingKeptError: no item has a row.
        StorageError: it can be neither read nor written.
    """
    try:
        try:
            return _mapped(entry, len(items), shape)
        except FileNotFoundError:
            pass
        except _Damaged:
            if say:
                say(f"{what} was damaged and is made anew")
        with folder_beside(entry) as temporary:
            _write(temporary, items, shape, make, progress)
            _put_in_place(temporary, entry, len(items), shape)
        return _mapped(entry, len(items), shape)
    except _Damaged as error:
        raise StorageError(f"{what}: {entry} does not keep what is written to it", HINT) from error
    except StorageError as error:
        raise StorageError(f"{what}: {error.message}", HINT) from error
    except OSError as error:
        raise StorageError(f"{what}: cannot read {entry}: {error.strerror or error}", HINT) from error


def _mapped(entry: Path, count: int, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], Index]:
    """The rows of an entry, whose index and length have been looked at.

    Raises:
        FileNotFoundError: there is no such entry.
        _Damaged: it is not what was written.
        OSError: it cannot be read.
    """
    if not entry.is_dir():
        if os.path.lexists(entry):
            raise _Damaged
        raise FileNotFoundError(entry)
    try:
        index = Index.model_validate_json(read_regular(entry / INDEX, LARGEST_INDEX))
        # A file that is cut after this look ends the process when its end is touched; nothing but care prevents that.
        rows = np.memmap(entry / ROWS, np.uint8, "r") if (entry / ROWS).is_file() else None
    except PermissionError:
        raise
    except (OSError, ValueError) as error:  # pydantic's errors are ValueErrors
        raise _Damaged from error
    places = [*index.kept, *(place for place, _ in index.left_out)]
    fits = rows is not None and index.kept and len(rows) == index.bytes == len(index.kept) * int(np.prod(shape))
    if rows is None or not fits or index.kept != sorted(index.kept) or sorted(places) != list(range(count)):
        raise _Damaged
    return rows.reshape(len(index.kept), *shape), index


def _write(
    folder: Path,
    items: Sequence[Item],
    shape: tuple[int, ...],
    make: Callable[[Item], NDArray[np.uint8] | str],
    progress: Progress | None,
) -> None:
    kept: list[int] = []
    left_out: list[tuple[int, str]] = []
    workers = usable_processors()
    # Chunks bound the rows that wait for the disk; Pillow decodes outside Python's global lock.
    chunk = 64 * workers
    with (folder / ROWS).open("wb") as file, ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(items), chunk):
            for place, made in enumerate(pool.map(make, items[start : start + chunk]), start):
                if isinstance(made, str):
                    left_out.append((place, made))
                else:
                    kept.append(place)
                    file.write(np.ascontiguousarray(made).data)
                if progress:
                    progress(place + 1, len(items))
        file.flush()
        os.fsync(file.fileno())
    if not kept:
        raise NothingKeptError(left_out[0][1] if left_out else "there are none")
    index = Index(bytes=len(kept) * int(np.prod(shape)), kept=kept, left_out=left_out)
    write_json(folder / INDEX, index.model_dump())


def _put_in_place(folder: Path, entry: Path, count: int, shape: tuple[int, ...]) -> None:
    """Renames a finished folder; another process may have made the same entry meanwhile, and its one serves as well."""
    try:
        _mapped(entry, count, shape)
        return
    except FileNotFoundError:
        pass
    except _Damaged:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    try:
        folder.replace(entry)
    except OSError:
        _mapped(entry, count, shape)


def file_state(path: Path) -> str:
    """Changes whenever a file's content may have: where it lies, links resolved, its length and time of change."""
    place = os.path.realpath(path)
    try:
        state = path.stat()
    except OSError as error:
        return f"{place}\0{error.errno}"
    return f"{place}\0{state.st_size}\0{state.st_mtime_ns}"
