"""The pictures an `infer` command names: files, folders, globs and standard input, as a stream."""

import glob
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nanocv_cli.errors import RequestError
from nanocv_cli.inference.images import SUFFIXES

STDIN = "-"
LARGEST_STDIN = 256 * 1024 * 1024


@dataclass(frozen=True)
class Source:
    """One picture to open.

    Attributes:
        shown: its path as the user will read it; `-` for standard input.
        content: the file, or the bytes of standard input.
        relative: where its annotated copy goes below the output folder.
    """

    shown: str
    content: Path | bytes
    relative: Path


class Pictures:
    """What the arguments name, checked at once; iterating yields the pictures in order, walking folders as it goes.

    Args:
        arguments: files (opened whatever their name), folders (walked for pictures by suffix, hidden entries left
            out), globs that the shell did not expand (`**` spans folders), and `-` for one picture on standard input.

    Attributes:
        roots: the files and folders named, globs expanded.

    Raises:
        RequestError: an argument names nothing, or a folder without pictures, or `-` stands twice.
    """

    def __init__(self, arguments: list[str]) -> None:
        if arguments.count(STDIN) > 1:
            raise RequestError("- stands for one picture on standard input", "name it once")
        self._arguments = {argument: _roots(argument) for argument in arguments}
        for argument, roots in self._arguments.items():
            if argument == STDIN:
                continue
            if not roots:
                raise RequestError(f"no file, folder or glob match: {argument}", f"paths begin at {Path.cwd()}")
            if next(_below(roots), None) is None:
                raise RequestError(f"no pictures in {argument}", f"known suffixes: {' '.join(sorted(SUFFIXES))}")

    @property
    def roots(self) -> list[Path]:
        return [root for roots in self._arguments.values() for root in roots]

    def __iter__(self) -> Iterator[Source]:
        for argument, roots in self._arguments.items():
            if argument == STDIN:
                yield Source(STDIN, _standard_input(), Path("stdin.png"))
            else:
                yield from _below(roots)


def _roots(argument: str) -> list[Path]:
    """The files and folders of one argument; of a glob's matches, those inside a matched folder come with it."""
    path = Path(argument)
    if argument == STDIN:
        return []
    if path.exists():
        return [path]
    folders: set[Path] = set()
    roots = []
    # Sorted, a folder stands before what it holds.
    for match in map(Path, sorted(glob.glob(argument, recursive=True))):  # noqa: PTH207  # Path.glob must be relative
        if folders.isdisjoint(match.parents):
            roots.append(match)
            if match.is_dir():
                folders.add(match)
    return roots


def _below(roots: list[Path]) -> Iterator[Source]:
    for root in roots:
        if root.is_dir():
            yield from _walk(root, root, frozenset())
        else:
            yield Source(_printable(root), root, Path(root.name))


def _walk(folder: Path, top: Path, above: frozenset[Path]) -> Iterator[Source]:
    """Pictures below `folder` in order of their names; `above` stops a link that leads back up."""
    here = folder.resolve()
    if here in above:
        return
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:  # yielded all the same: opening it will tell the user why it was skipped
        yield Source(_printable(folder), folder, folder.relative_to(top))
        return
    for name in names:
        entry = folder / name
        if name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry, top, above | {here})
        elif entry.suffix.lower() in SUFFIXES:
            yield Source(_printable(entry), entry, entry.relative_to(top))


def _printable(path: Path) -> str:
    """A path as text; bytes in a name that are no UTF-8 are escaped, for neither JSON nor a terminal can carry them."""
    return str(path).encode(errors="backslashreplace").decode()


def _standard_input() -> bytes:
    content = sys.stdin.buffer.read(LARGEST_STDIN + 1)
    if len(content) > LARGEST_STDIN:
        raise RequestError(f"standard input is longer than {LARGEST_STDIN >> 20} MiB", "give the picture as a file")
    return content
