"""Decode once: what takes long to make of a split is a uint8 memory map, made at first use and then only mapped.

An entry is a folder: `rows.u8` with a row for every item, in parts of some 64 MB; `parts/`, a record for each part that
is whole, with its checksum; and `index.json`, which is written last. A killed process leaves whole parts, and the next
one goes on with the others. Several processes make an entry together: each claims one part at a time by a lock, which
ends with it. `index.json` says when `rows.u8` was last written: if that differs, every part is held against its
checksum, and those that fail are made anew.
"""

import fcntl
import os
import shutil
import stat
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeInt

from nanocv_cli.errors import DataError, StorageError
from nanocv_cli.files import expect_folder, write_json
from nanocv_cli.machine import usable_processors
from nanocv_cli.untrusted import read_regular

Progress = Callable[[int, int], None]
Say = Callable[[str], None]
Item = TypeVar("Item")
Left = tuple[NonNegativeInt, str]

ROWS, INDEX, PARTS, CLAIMS = "rows.u8", "index.json", "parts", "claims"
LARGEST_INDEX = 1 << 30
PART_BYTES = 64 << 20
FEWEST_ROWS, MOST_ROWS = 64, 8192  # of a part
AT_ONCE = 16  # items that a thread makes rows of before it asks for more
HINT = "free some space, set NANOCV_CACHE to a folder of your own, or let images stream: --set data.cache_gb=0"


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Index(_Strict):
    """What is said of an entry that is whole.

    Attributes:
        count: of its rows.
        modified: when `rows.u8` was last written, nanoseconds since 1970.
        left_out: the places of items without a row, and why each has none.
    """

    count: NonNegativeInt
    modified: int
    left_out: list[Left]


class Part(_Strict):
    """What is said of a part that is whole.

    Attributes:
        checksum: CRC-32 of its rows.
        left_out: as in `Index`, with places from the start of the part.
    """

    checksum: NonNegativeInt
    left_out: list[Left]


class NothingKeptError(DataError):
    """Not one item has a row.

    Args:
        reason: why the first one has none.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"nothing can be kept: {reason}", "nanocv data check names every problem")
        self.reason = reason


def cached_array(
    entry: Path,
    items: Sequence[Item],
    shape: tuple[int, ...],
    make: Callable[[Item], NDArray[np.uint8] | str],
    what: str,
    progress: Progress | None = None,
    say: Say | None = None,
) -> tuple[NDArray[np.uint8], list[Left]]:
    """Maps an entry, making first what it lacks, or what was damaged, which is said.

    Args:
        entry: its folder; the name must change with whatever decides the rows.
        items: what rows are made of, several at a time.
        shape: of a row.
        make: the row of an item, uint8 of that shape, or why it has none.
        what: its name in messages: `the image cache`.
        progress: called with (done, total) while rows are made.
        say: is told in one line if the entry was damaged or unfinished.

    Returns:
        uint8 [n, *shape], mapped read-only, and which rows mean nothing.

    Raises:
        NothingKeptError: no item has a row.
        StorageError: it can be neither read nor written.
    """
    kept = _Entry(entry, items, shape, make)
    try:
        index = kept.index()
        if index is None:
            index = kept.completed(what, progress, say)
        return kept.mapped(), index.left_out
    except StorageError as error:
        raise StorageError(f"{what}: {error.message}", HINT) from error
    except OSError as error:
        raise StorageError(f"{what}: cannot read or write {entry}: {error.strerror or error}", HINT) from error


class _Entry(Generic[Item]):
    """One entry, and what its rows are made of; see `cached_array`."""

    def __init__(
        self,
        folder: Path,
        items: Sequence[Item],
        shape: tuple[int, ...],
        make: Callable[[Item], NDArray[np.uint8] | str],
    ) -> None:
        self.folder, self.items, self.shape, self.make = folder, items, shape, make
        self.row_bytes = int(np.prod(shape))
        self.bytes = len(items) * self.row_bytes
        self.part_rows = max(FEWEST_ROWS, min(MOST_ROWS, PART_BYTES // self.row_bytes))
        self.parts = range(-(-len(items) // self.part_rows))

    def index(self) -> Index | None:
        """Of an entry that is whole, and as it was written; None of any other."""
        try:
            index = Index.model_validate_json(read_regular(self.folder / INDEX, LARGEST_INDEX))
            rows = (self.folder / ROWS).lstat()
        except PermissionError:
            raise
        except (OSError, ValueError):  # pydantic's errors are ValueErrors
            return None
        places = [place for place, _ in index.left_out]
        is_sound = places == sorted(set(places)) and all(place < index.count for place in places)
        is_same = stat.S_ISREG(rows.st_mode) and (rows.st_size, rows.st_mtime_ns) == (self.bytes, index.modified)
        return index if is_sound and is_same and index.count == len(self.items) > len(places) else None

    def mapped(self) -> NDArray[np.uint8]:
        """The rows; a file that is cut after this ends the process when its end is touched: nothing prevents that."""
        return np.memmap(self.folder / ROWS, np.uint8, "r").reshape(len(self.items), *self.shape)

    def completed(self, what: str, progress: Progress | None, say: Say | None) -> Index:
        """Makes every part that is not whole, together with other processes, and writes the index."""
        tell = say or (lambda _: None)
        was_whole = os.path.lexists(self.folder / INDEX if self.folder.is_dir() else self.folder)
        self._prepare()
        found = {number: part for number in self.parts if (part := self._part(number))}
        missing = [number for number in self.parts if number not in found]
        if was_whole and missing:
            tell(f"{what} was damaged: {len(missing)} of {len(self.parts)} parts are made anew")
        elif found and missing:
            tell(f"{what} was left unfinished: {len(missing)} of {len(self.parts)} parts are still to be made")
        with self._claims() as claim, ThreadPoolExecutor(usable_processors()) as pool:
            # First what nobody else is making, then what others have not finished.
            for waits in (False, True):
                for number in [number for number in missing if number not in found]:
                    with claim(number, waits) as is_claimed:
                        if is_claimed:
                            done = sum(self._rows_of(one) for one in found)
                            found[number] = self._part(number) or self._made(number, pool, done, progress)
        left_out = [
            (number * self.part_rows + place, reason)
            for number in self.parts for place, reason in found[number].left_out
        ]  # fmt: skip
        if len(left_out) == len(self.items):
            shutil.rmtree(self.folder, ignore_errors=True)
            raise NothingKeptError(left_out[0][1] if left_out else "there are none")
        modified = (self.folder / ROWS).stat().st_mtime_ns
        index = Index(count=len(self.items), modified=modified, left_out=left_out)
        write_json(self.folder / INDEX, index.model_dump())
        return index

    def _prepare(self) -> None:
        """Folders and a file of the right length are there; what else bears their names is removed."""
        for folder in (self.folder, self.folder / PARTS):
            if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
                folder.unlink()
            expect_folder(folder.parent)
            folder.mkdir(parents=True, exist_ok=True)
        for path in (self.folder / ROWS, self.folder / INDEX, self.folder / CLAIMS):
            if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        rows = self.folder / ROWS
        length = rows.stat().st_size if rows.exists() else 0
        free = shutil.disk_usage(self.folder).free
        if self.bytes - length > free:
            raise StorageError(f"{self.bytes / 1e9:,.1f} GB are needed in {self.folder}, {free / 1e9:,.1f} GB are free")
        if length != self.bytes or not rows.exists():
            with rows.open("ab") as file:
                file.truncate(self.bytes)

    def _rows_of(self, number: int) -> int:
        return min(self.part_rows, len(self.items) - number * self.part_rows)

    def _record(self, number: int) -> Path:
        return self.folder / PARTS / f"{number:06d}.json"

    def _part(self, number: int) -> Part | None:
        """A part that is whole, by its checksum."""
        try:
            part = Part.model_validate_json(read_regular(self._record(number), LARGEST_INDEX))
        except (OSError, ValueError):
            return None
        first = number * self.part_rows
        rows = self.mapped()[first : first + self._rows_of(number)]
        places = [place for place, _ in part.left_out]
        is_sound = places == sorted(set(places)) and all(place < len(rows) for place in places)
        return part if is_sound and zlib.crc32(rows.data) == part.checksum else None

    def _made(self, number: int, pool: ThreadPoolExecutor, done: int, progress: Progress | None) -> Part:
        """Makes a part and writes it, then its record."""
        first, count = number * self.part_rows, self._rows_of(number)
        rows, left_out = np.zeros((count, *self.shape), np.uint8), list[Left]()
        starts = range(0, count, AT_ONCE)

        def make(start: int) -> list[NDArray[np.uint8] | str]:
            return [self.make(item) for item in self.items[first + start : first + min(start + AT_ONCE, count)]]

        # Pillow decodes outside Python's global lock.
        for start, made in zip(starts, pool.map(make, starts), strict=True):
            for place, row in enumerate(made, start):
                if isinstance(row, str):
                    left_out.append((place, row))
                else:
                    rows[place] = row
            if progress:
                progress(done + start + len(made), len(self.items))
        descriptor = os.open(self.folder / ROWS, os.O_WRONLY | os.O_CLOEXEC)
        try:
            content, offset = rows.data.cast("B"), first * self.row_bytes
            while content:
                written = os.pwrite(descriptor, content, offset)
                content, offset = content[written:], offset + written
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part = Part(checksum=zlib.crc32(rows.data), left_out=left_out)
        write_json(self._record(number), part.model_dump())
        return part

    @contextmanager
    def _claims(self) -> Iterator[Callable[[int, bool], Any]]:
        """Yields what claims a part for this process: a byte of a file is locked for each, until it ends or dies."""
        # Closing any descriptor of the file would give up all claims: there is one.
        descriptor = os.open(self.folder / CLAIMS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

        @contextmanager
        def claim(number: int, waits: bool) -> Iterator[bool]:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB), 1, number)
            except (BlockingIOError, PermissionError):
                yield False
                return
            except OSError:  # a file system without locks: two processes may make the same rows, to the same end
                yield True
                return
            try:
                yield True
            finally:
                fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, number)

        try:
            yield claim
        finally:
            os.close(descriptor)


def is_whole(entry: Path) -> bool:
    """Whether an entry is there, made to its end."""
    return (entry / INDEX).is_file()


def cached_bytes(folder: Path, besides: Path) -> int:
    """Bytes of all entries in a folder of caches but one, whole or not."""
    found = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                found += 0 if entry.name == besides.name else os.lstat(os.path.join(entry.path, ROWS)).st_size  # noqa: PTH118
    return found
