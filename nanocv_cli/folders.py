"""Folders of others, walked: through links, in one order on every machine, and never for ever.

Python's own `rglob` follows links to folders in some versions and not in others; this walk always does.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

# Links can lead to one folder in more ways than there are seconds; in so many it is walked.
MOST_VISITS = 16

Identity = tuple[int, int]


class _Run(NamedTuple):
    """Neighbours in a folder; without names, the folder itself.

    Attributes:
        folder: its path.
        names: of what is no folder, or, alone, of a folder that cannot be listed.
        is_closed: whether it is such a one.
    """

    folder: str
    names: list[str]
    is_closed: bool = False


def files_below(top: Path, suffixes: Collection[str]) -> Iterator[Path]:
    """Everything below a folder that bears one of the suffixes and is no folder itself, in order of its path.

    Links are followed, to files and to folders, but not to a folder that holds the link; hidden entries are passed
    over. Nothing is opened: what is yielded may be a link to nothing, or a pipe. A folder that cannot be listed is
    yielded in place of what it holds, so that opening it tells why.

    Args:
        top: the folder.
        suffixes: in lower case, with their dots.
    """
    for folder, names in runs_below(top, suffixes):
        parent = Path(folder)
        yield from (parent / name for name in names)


def runs_below(top: Path, suffixes: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    """The same files, without a `Path` for each: a folder's path, and the names of files that follow one another there.

    A folder comes as often as others lie between its files.
    """
    for folder, names, is_closed in _walk(top):
        found = names if is_closed else [name for name in names if _suffix(name) in suffixes]
        if found:
            yield folder, found


def folders_below(top: Path) -> Iterator[Path]:
    """A folder and every one below it that can be listed, each before what it holds; see `files_below`."""
    return (Path(run.folder) for run in _walk(top) if not run.names)


def subfolders(top: Path) -> list[Path]:
    """The folders in a folder, links to folders among them, hidden ones left out, in order of their names.

    Raises:
        OSError: it cannot be listed.
    """
    return [top / entry.name for entry in _entries(top) if _is_folder(entry)]


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


def _walk(top: Path) -> Iterator[_Run]:
    visits: Counter[Identity] = Counter()
    # What is still to be done, the next at the end: runs, and folders with those that hold them.
    pending: list[_Run | tuple[str, frozenset[Identity]]] = [(str(top), _holding(top))]
    while pending:
        work = pending.pop()
        if isinstance(work, _Run):
            yield work
            continue
        path, above = work
        try:
            here = _identity(path)
            if here in above or visits[here] == MOST_VISITS:
                continue
            visits[here] += 1
            entries = _entries(path)
        except OSError:
            parent, name = os.path.split(path)
            yield _Run(parent, [name], is_closed=True)
            continue
        yield _Run(path, [])
        within = above | {here}
        found: list[_Run | tuple[str, frozenset[Identity]]] = []
        for is_folder, neighbours in groupby(entries, _is_folder):
            if is_folder:
                found += [(entry.path, within) for entry in neighbours]
            else:
                found.append(_Run(path, [entry.name for entry in neighbours]))
        pending += reversed(found)


def _entries(folder: Path | str) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as listing:
        return sorted((entry for entry in listing if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or one whose target may not be looked at
        return False


def _suffix(name: str) -> str:
    return name[name.rfind(".") :].lower() if "." in name else ""


def _holding(top: Path) -> frozenset[Identity]:
    """The folders that hold `top`, by its own name and by that of what it links to."""
    found = set()
    for folder in {*top.absolute().parents, *Path(os.path.realpath(top)).parents}:
        try:
            found.add(_identity(folder))
        except OSError:
            continue
    return frozenset(found)


def _identity(folder: Path | str) -> Identity:
    status = os.stat(folder)  # noqa: PTH116
    return status.st_dev, status.st_ino
