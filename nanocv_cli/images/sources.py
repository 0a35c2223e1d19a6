"""The images an `infer` command names: files, folders, globs and standard input, as a stream."""

import glob
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.errors import RequestError
from nanocv_cli.folders import files_below, folders_below
from nanocv_cli.images.resize import SUFFIXES
from nanocv_cli.untrusted import printable

STDIN = "-"
SPANNING = "**"
LARGEST_STDIN = 256 * 1024 * 1024


@dataclass(frozen=True)
class Source:
    """One image to open.

    Attributes:
        shown: its path as the user will read it; `-` for standard input.
        content: the file, its bytes, a function that waits for its bytes, or pixels uint8 [H,W,3] RGB.
        relative: where its annotated copy goes below the output folder.
    """

    shown: str
    content: Path | bytes | Callable[[], bytes] | NDArray[np.uint8]
    relative: Path

    @property
    def file(self) -> Path | bytes:
        """The image as a file or its bytes, which may have to be waited for; only where `content` is no pixels."""
        content = self.content
        if isinstance(content, np.ndarray):
            raise TypeError("these are pixels, no file")
        return content if isinstance(content, Path | bytes) else content()


class Images:
    """What the arguments name, checked at once; iterating yields the images in order, walking folders as it goes.

    Args:
        arguments: files (opened whatever their name), folders (walked for images by suffix, hidden entries left
            out; see `folders.files_below`), globs that the shell did not expand (`**` spans folders), and `-` for one
            image on standard input.

    Attributes:
        roots: the files and folders named, globs expanded.

    Raises:
        RequestError: an argument is empty, names nothing, or a folder without images, or `-` stands twice.
    """

    def __init__(self, arguments: list[str]) -> None:
        if arguments.count(STDIN) > 1:
            raise RequestError("- stands for one image on standard input", "name it once")
        if not all(argument.strip() for argument in arguments):
            raise RequestError("an argument is empty", "is a shell variable unset? . stands for the current folder")
        self._arguments = {argument: _roots(argument) for argument in arguments}
        for argument, roots in self._arguments.items():
            if argument == STDIN:
                continue
            if not roots:
                raise RequestError(
                    f"no file, folder or glob match: {printable(argument)}", f"paths begin at {Path.cwd()}"
                )
            if next(_below(roots), None) is None:
                raise RequestError(
                    f"no images in {printable(argument)}", f"known suffixes: {' '.join(sorted(SUFFIXES))}"
                )

    @property
    def roots(self) -> list[Path]:
        return [root for roots in self._arguments.values() for root in roots]

    def __iter__(self) -> Iterator[Source]:
        for argument, roots in self._arguments.items():
            if argument == STDIN:
                yield Source(STDIN, _standard_input, Path("stdin.png"))
            else:
                yield from _below(roots)


def _roots(argument: str) -> list[Path]:
    """The files and folders of one argument; of a glob's matches, those inside a matched folder come with it."""
    if argument == STDIN:
        return []
    if _exists(Path(argument)):
        return [Path(argument)]
    folders: set[Path] = set()
    roots = []
    # Sorted, a folder stands before what it holds.
    for match in map(Path, sorted(set(_matches(argument)))):
        if folders.isdisjoint(match.parents):
            roots.append(match)
            if match.is_dir():
                folders.add(match)
    return roots


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # longer than the file system allows, or behind a folder that may not be read
        return False


def _matches(pattern: str) -> Iterator[str]:
    """What a glob names. Python's own `**` follows links round and round; this one walks folders as everything does."""
    parts = Path(pattern).parts
    if SPANNING not in parts:
        yield from glob.glob(pattern)  # noqa: PTH207  # Path.glob must be relative
        return
    place = parts.index(SPANNING)
    rest = Path(*dropwhile(lambda part: part == SPANNING, parts[place:]))
    for top in glob.glob(str(Path(*parts[:place]))):  # noqa: PTH207  # as above
        if not Path(top).is_dir():
            continue
        if rest == Path():
            yield from [top] if place else glob.glob("*")  # noqa: PTH207  # as above
            continue
        for folder in folders_below(Path(top)):
            yield from _matches(str(Path(glob.escape(str(folder))) / rest))


def _below(roots: list[Path]) -> Iterator[Source]:
    for root in roots:
        if root.is_dir():
            for path in files_below(root, SUFFIXES):
                yield Source(_printable(path), path, path.relative_to(root))
        else:
            yield Source(_printable(root), root, Path(root.name))


def _printable(path: Path) -> str:
    """A path as text; bytes in a name that are no UTF-8 are escaped, for neither JSON nor a terminal can carry them."""
    return str(path).encode(errors="backslashreplace").decode()


def _standard_input() -> bytes:
    content = sys.stdin.buffer.read(LARGEST_STDIN + 1)
    if len(content) > LARGEST_STDIN:
        raise RequestError(f"standard input is longer than {LARGEST_STDIN >> 20} MiB", "give the image as a file")
    return content
