"""Folders of others, walked: through links, in one order on every machine, and never for ever.

Python's own `rglob` follows links to folders in some versions and not in others; this walk always does.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterator
from enum import Enum
from pathlib import Path

# Links can lead to one folder in more ways than there are seconds; in so many it is walked.
MOST_VISITS = 16

Identity = tuple[int, int]


class _Kind(Enum):
    FILE = 1  # whatever is no folder
    FOLDER = 2
    CLOSED = 3  # a folder that cannot be listed


def files_below(top: Path, suffixes: Collection[str]) -> Iterator[Path]:
    """Everything below a folder that bears one of the suffixes and is no folder itself, in order of its path.

    Links are followed, to files and to folders, but not to a folder that holds the link; hidden entries are passed
    over. Nothing is opened: what is yielded may be a link to nothing, or a pipe. A folder that cannot be listed is
    yielded in place of what it holds, so that opening it tells why.

    Args:
        top: the folder.
        suffixes: in lower case, with their dots.
    """
    for path, kind in _walk(top):
        if kind is _Kind.CLOSED or (kind is _Kind.FILE and path.suffix.lower() in suffixes):
            yield path


def folders_below(top: Path) -> Iterator[Path]:
    """A folder and every one below it that can be listed, each before what it holds; see `files_below`."""
    return (path for path, kind in _walk(top) if kind is _Kind.FOLDER)


def subfolders(top: Path) -> list[Path]:
    """The folders in a folder, links to folders among them, hidden ones left out, in order of their names.

    Raises:
        OSError: it cannot be listed.
    """
    return [top / entry.name for entry in _entries(top) if _kind(entry) is _Kind.FOLDER]


def is_file(path: Path) -> bool:
    """Whether a name that others chose is a regular file, or a link to one; `Path.is_file` fails on some names."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, behind a folder that may not be read, or no name at all
        return False


def is_folder(path: Path) -> bool:
    """Whether a name that others chose is a folder, or a link to one; see `is_file`."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _walk(top: Path) -> Iterator[tuple[Path, _Kind]]:
    visits: Counter[Identity] = Counter()
    pending: list[tuple[Path, _Kind, frozenset[Identity]]] = [(top, _Kind.FOLDER, _holding(top))]
    while pending:
        path, kind, above = pending.pop()
        if kind is _Kind.FILE:
            yield path, kind
            continue
        try:
            here = _identity(path)
            if here in above or visits[here] == MOST_VISITS:
                continue
            visits[here] += 1
            entries = _entries(path)
        except OSError:
            yield path, _Kind.CLOSED
            continue
        yield path, kind
        within = above | {here}
        pending += [(path / entry.name, _kind(entry), within) for entry in reversed(entries)]


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as listing:
        return sorted((entry for entry in listing if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _kind(entry: "os.DirEntry[str]") -> _Kind:
    try:
        return _Kind.FOLDER if entry.is_dir() else _Kind.FILE
    except OSError:  # a link to itself, or one whose target may not be looked at
        return _Kind.FILE


def _holding(top: Path) -> frozenset[Identity]:
    """The folders that hold `top`, by its own name and by that of what it links to."""
    found = set()
    for folder in {*top.absolute().parents, *Path(os.path.realpath(top)).parents}:
        try:
            found.add(_identity(folder))
        except OSError:
            continue
    return frozenset(found)


def _identity(folder: Path) -> Identity:
    status = folder.stat()
    return status.st_dev, status.st_ino
