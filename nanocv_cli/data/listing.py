"""The files of a set, named in few bytes each: a million `Path` objects take some 400 MB, their names alone 20."""

import hashlib
import os
import stat
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.machine import usable_processors

# Names that are taken apart at a time: the memory for that is freed before the next.
AT_ONCE = 1 << 15


class FileState(NamedTuple):
    """What changes whenever a file's content may have.

    Attributes:
        place: where it lies, links resolved; as the file system has it.
        size: bytes; where it cannot be looked at, the negative number of the error.
        modified: nanoseconds since 1970.
    """

    place: bytes
    size: int
    modified: int


class Part(Protocol):
    """What an image is that has no file of its own."""

    def read(self) -> bytes:
        """The image as its file would be."""


class Listing(Sequence[Path]):
    """Paths of files in their order, in 14 bytes each and those of their names; parts of it share the names.

    Args:
        folders: paths of folders.
        names: names of files, one after another, as the file system has them.
        folder: int32 [n], the folder that each file is in.
        start: int64 [n], where its name begins in `names`.
        length: uint16 [n], bytes of its name.
    """

    def __init__(
        self,
        folders: Sequence[str],
        names: bytes,
        folder: NDArray[np.int32],
        start: NDArray[np.int64],
        length: NDArray[np.uint16],
    ) -> None:
        self._folders, self._names = tuple(folders), names
        self._folder, self._start, self._length = folder, start, length
        self._known: Known | None = None

    @classmethod
    def of(cls, runs: Iterable[tuple[str, Sequence[str]]]) -> "Listing":
        """Files by their folders' paths and their names there, one run of files after another."""
        folders: list[str] = []
        names = bytearray()
        lengths: list[NDArray[np.uint16]] = [np.zeros(0, np.uint16)]
        for folder, found in runs:
            together = os.fsencode("".join(found))
            folders.append(folder)
            names += together
            # Most names are ASCII, and as long in bytes as in letters.
            is_plain = len(together) == sum(map(len, found))
            measured = map(len, found if is_plain else map(os.fsencode, found))
            lengths.append(np.fromiter(measured, np.uint16, len(found)))
        length = np.concatenate(lengths)
        owners = np.repeat(np.arange(len(folders), dtype=np.int32), [len(part) for part in lengths[1:]])
        return cls(folders, bytes(names), owners, np.cumsum(length, dtype=np.int64) - length, length)

    @classmethod
    def joined(cls, listings: Sequence["Listing"]) -> "Listing":
        """The files of several listings, one after another."""
        folders = [len(listing._folders) for listing in listings]
        names = [len(listing._names) for listing in listings]
        moved = zip(listings, np.cumsum([0, *folders]), np.cumsum([0, *names]), strict=False)
        parts = [(part._folder + np.int32(folder), part._start + start, part._length) for part, folder, start in moved]
        empty = (np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.uint16))
        columns = [np.concatenate(column) for column in zip(empty, *parts, strict=True)]
        all_folders = [folder for listing in listings for folder in listing._folders]
        return cls(all_folders, b"".join(listing._names for listing in listings), *columns)

    @classmethod
    def of_paths(cls, paths: Iterable[Path]) -> "Listing":
        """Any paths."""
        runs: list[tuple[str, list[str]]] = []
        for path in paths:
            folder = str(path.parent)
            if not runs or runs[-1][0] != folder:
                runs.append((folder, []))
            runs[-1][1].append(path.name)
        return cls.of(runs)

    def __len__(self) -> int:
        return len(self._folder)

    @overload
    def __getitem__(self, place: int) -> Path: ...
    @overload
    def __getitem__(self, place: slice) -> "Listing": ...
    def __getitem__(self, place: int | slice) -> "Path | Listing":
        if isinstance(place, slice):
            return self.take(np.arange(len(self))[place])
        return Path(*self._folder_and_name(place))

    def __iter__(self) -> Iterator[Path]:
        return (Path(self._folders[folder], os.fsdecode(name)) for folder, name in self._parts())

    def shown(self, place: int) -> str:
        """A file as messages name it: what is behind a URL with that URL, of whose slashes a path keeps one."""
        folder, name = self._folder_and_name(place)
        return f"{folder}/{name}" if "://" in folder else str(self[place])

    def take(self, places: NDArray[np.int64]) -> "Listing":
        """The files at some places, in that order."""
        part = Listing(self._folders, self._names, self._folder[places], self._start[places], self._length[places])
        if self._known:
            part._known = Known(self._known.size[places], self._known.modified[places], self._known.links)
        return part

    @property
    def readers(self) -> int:
        """Threads that images are best read and decoded by."""
        return usable_processors()

    def part(self, place: int) -> Part | None:
        """What a file in the list is a part of; None: it is one of its own."""
        return None

    def names_in(self, root: Path) -> Iterator[bytes]:
        """The paths relative to a folder, wherever links among them lead; as the file system has them."""
        return self._after([_relative(folder, root) for folder in self._folders])

    def states(self) -> Iterator[FileState]:
        """The state of each file as it was when this was first asked of the listing, or of one that it is a part of."""
        known, places = self._look(), self._places()
        for first in range(0, len(self), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            columns = (known.size[part].tolist(), known.modified[part].tolist())
            for place, size, modified in zip(islice(places, AT_ONCE), *columns, strict=True):
                yield FileState(known.links.get(place, place), size, modified)

    def digest(self) -> bytes:
        """Changes with the state of any file, and with the order of the files."""
        known = self._look()
        used, folder = np.unique(self._folder, return_inverse=True)
        digest = hashlib.sha256()
        for part in (
            b"\0".join(_real(self._folders[number]) for number in used),
            b"\0".join(b"\0".join(link) for link in sorted(known.links.items())),
            *(column.tobytes() for column in (folder, self._length, known.size, known.modified)),
        ):
            digest.update(b"%d:" % len(part) + part)
        names = (name for _, name in self._parts())
        for _ in range(0, len(self), AT_ONCE):
            digest.update(b"".join(islice(names, AT_ONCE)))
        return digest.digest()

    def missing(self) -> set[Path]:
        """Files that are listed and were not there when the file system was first asked for their states."""
        return {self[place] for place in np.flatnonzero(self._look().size < 0).tolist()}

    def total_bytes(self) -> int:
        """Of all files together; those that cannot be looked at count as none."""
        return int(self._look().size.clip(0).sum())

    def _folder_and_name(self, place: int) -> tuple[str, str]:
        start, length = int(self._start[place]), int(self._length[place])
        return self._folders[self._folder[place]], os.fsdecode(self._names[start : start + length])

    def _look(self) -> "Known":
        """Asks the file system once for each file, and twice for a link."""
        if self._known:
            return self._known
        sizes, times, links = array("q"), array("q"), dict[bytes, bytes]()
        for place in self._places():
            try:
                status = os.lstat(place)
                if stat.S_ISLNK(status.st_mode):
                    links[place] = os.path.realpath(place)
                    status = os.stat(place)  # noqa: PTH116  # a `Path` for each of a million takes longer
            except OSError as error:
                sizes.append(-(error.errno or 1))
                times.append(0)
                continue
            sizes.append(status.st_size)
            times.append(status.st_mtime_ns)
        self._known = Known(np.array(sizes, np.int64), np.array(times, np.int64), links)
        return self._known

    def _places(self) -> Iterator[bytes]:
        """Where each file lies by the names of its real folder."""
        return self._after([_real(folder) for folder in self._folders])

    def _after(self, beginnings: list[bytes]) -> Iterator[bytes]:
        """Each file's name after what its folder has."""
        return (beginnings[folder] + name for folder, name in self._parts())

    def _parts(self) -> Iterator[tuple[int, bytes]]:
        """For each file the number of its folder, and its name."""
        names = self._names
        for first in range(0, len(self), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            start, length = self._start[part], self._length[part]
            for folder, begin, end in zip(
                self._folder[part].tolist(), start.tolist(), (start + length).tolist(), strict=True
            ):
                yield folder, names[begin:end]


@dataclass(frozen=True)
class Known:
    """States of files: int64 [n] sizes and times, and where those of them that are links lead."""

    size: NDArray[np.int64]
    modified: NDArray[np.int64]
    links: dict[bytes, bytes]


def _real(folder: str) -> bytes:
    """What stands before the names of a folder's files, links resolved; a URL is as it is."""
    return os.fsencode(f"{folder if '://' in folder else os.path.realpath(folder).rstrip('/')}/")


def _relative(folder: str, root: Path) -> bytes:
    """The same, relative to `root`."""
    try:
        found = str(Path(folder).relative_to(root))
    except ValueError:  # images beside the folder of their labels
        found = os.path.relpath(folder, root)
    return b"" if found == "." else os.fsencode(f"{found}/")
