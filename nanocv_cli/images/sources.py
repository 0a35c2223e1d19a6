"""The images an `infer` command names: files, folders, globs, lists, URLs and standard input, as a stream."""

import glob
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import dropwhile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.errors import RequestError
from nanocv_cli.folders import files_below, folders_below, is_file
from nanocv_cli.images.remote_files import RemoteFile, expect_store, is_remote, remote_images
from nanocv_cli.images.resize import SUFFIXES
from nanocv_cli.untrusted import printable

STDIN = "-"
LIST = ".txt"  # suffix of files that name images, one a line
LARGEST_LIST = 1 << 30  # bytes
FILE_URL = "file://"
SPANNING = "**"
LARGEST_STDIN = 256 * 1024 * 1024


@dataclass(frozen=True)
class Source:
    """One image to open.

    Attributes:
        shown: its path as the user will read it; `-` for standard input.
        content: the file, its bytes, an object of a store, a function that waits for its bytes, or pixels uint8 [H,W,3]
            RGB.
        relative: where its annotated copy goes below the output folder.
    """

    shown: str
    content: Path | bytes | RemoteFile | Callable[[], bytes] | NDArray[np.uint8]
    relative: Path

    @property
    def file(self) -> Path | bytes:
        """The image as a file or its bytes, which may have to be waited for; only where `content` is no pixels.

        Raises:
            UnreadableImageError, DataError: see `RemoteFile.read`.
        """
        content = self.content
        if isinstance(content, np.ndarray):
            raise TypeError("these are pixels, no file")
        if isinstance(content, RemoteFile):
            return content.read()
        return content if isinstance(content, Path | bytes) else content()

    @property
    def place(self) -> str:
        """What `source_at` makes this source of again, in another process.

        Raises:
            TypeError: it is neither a file nor an object of a store.
        """
        if isinstance(self.content, RemoteFile):
            return self.content.url
        if isinstance(self.content, Path):
            return str(self.content)
        raise TypeError("this image has no place outside of this process")


def source_at(place: str, folder: Path | None = None) -> Source:
    """The image at a path or URL.

    Args:
        place: the path or URL.
        folder: where a relative path begins; None: the current folder.
    """
    if is_remote(place):
        return Source(_printable(place), RemoteFile(place), Path(PurePosixPath(place).name))
    path = Path(place)
    return Source(_printable(place), folder / path if folder else path, Path(path.name))


class Images:
    """What the arguments name, checked at once; iterating yields the images in order, walking folders as it goes.

    Args:
        arguments: files (opened whatever their name), folders (walked for images by suffix, hidden entries left
            out; see `folders.files_below`), globs that the shell did not expand (`**` spans folders), `.txt` files
            that name a path or URL on each line, URLs of an object store (`s3://bucket/photos`), and `-` for one image
            on standard input. What lies below a URL is listed when its turn comes.

    Attributes:
        roots: the files and folders named, globs and lists expanded.

    Raises:
        RequestError: an argument is empty, names nothing, or a folder without images, a list names a file twice or
            none, `-` stands twice, or a URL is of no known store.
        DataError: a list cannot be read.
        MissingExtraError: what opens a URL is not installed.
    """

    def __init__(self, arguments: list[str]) -> None:
        if arguments.count(STDIN) > 1:
            raise RequestError("- stands for one image on standard input", "name it once")
        if not all(argument.strip() for argument in arguments):
            raise RequestError("an argument is empty", "is a shell variable unset? . stands for the current folder")
        self.roots: list[Path] = []
        self._streams: list[Callable[[], Iterator[Source]]] = []
        for argument in map(_without_file_scheme, dict.fromkeys(arguments)):
            if argument == STDIN:
                self._streams.append(_from_standard_input)
            elif is_remote(argument):
                expect_store(argument)
                self._streams.append(partial(_from_store, argument))
            elif argument.lower().endswith(LIST) and is_file(Path(argument)):
                places = _listed(argument)
                self.roots += [Path(place) for place in places if not is_remote(place)]
                self._streams.append(partial(map, source_at, places))
            else:
                roots = _roots(argument)
                self.roots += roots
                self._streams.append(partial(_below, roots))

    def __iter__(self) -> Iterator[Source]:
        for stream in self._streams:
            yield from stream()


def _without_file_scheme(argument: str) -> str:
    """A `file://` URL as the path it names; anything else as it is."""
    return unquote(argument.removeprefix(FILE_URL)) if argument.startswith(FILE_URL + "/") else argument


def _listed(argument: str) -> list[str]:
    """The places that a list names; see `Images`."""
    from nanocv_cli.foreign import read_text  # which imports what most calls do without

    lines: dict[str, int] = {}
    for number, line in enumerate(read_text(Path(argument), LARGEST_LIST).split("\n"), start=1):
        place = _without_file_scheme(line.strip())
        if not place:
            continue
        if place in lines:
            raise RequestError(
                f"{printable(argument)}:{number}: {printable(place)} stands in line {lines[place]} already",
                "name each image once: sort -u",
            )
        lines[place] = number
    if not lines:
        raise RequestError(f"no images in {printable(argument)}", "write one path or URL on each line")
    schemes = {place.partition("://")[0]: place for place in lines if is_remote(place)}
    for place in schemes.values():
        expect_store(place)
    return list(lines)


def _roots(argument: str) -> list[Path]:
    """The files and folders of one argument, which hold an image; of a glob's matches, those inside a matched folder
    come with it.
    """
    roots = [Path(argument)] if _exists(Path(argument)) else _expanded(argument)
    if not roots:
        raise RequestError(f"no file, folder or glob match: {printable(argument)}", f"paths begin at {Path.cwd()}")
    if next(_below(roots), None) is None:
        raise RequestError(f"no images in {printable(argument)}", f"known suffixes: {' '.join(sorted(SUFFIXES))}")
    return roots


def _expanded(argument: str) -> list[Path]:
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


def _printable(path: Path | str) -> str:
    """A path as text; bytes in a name that are no UTF-8 are escaped, for neither JSON nor a terminal can carry them."""
    return str(path).encode(errors="backslashreplace").decode()


def _from_store(url: str) -> Iterator[Source]:
    return map(source_at, remote_images(url))


def _from_standard_input() -> Iterator[Source]:
    yield Source(STDIN, _standard_input, Path("stdin.png"))


def _standard_input() -> bytes:
    content = sys.stdin.buffer.read(LARGEST_STDIN + 1)
    if len(content) > LARGEST_STDIN:
        raise RequestError(f"standard input is longer than {LARGEST_STDIN >> 20} MiB", "give the image as a file")
    return content
