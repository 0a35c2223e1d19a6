"""The pictures an `infer` command names: files, folders, globs and standard input, as a stream."""

import glob
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nanocv_cli.errors import RequestError
from nanocv_cli.inference.images import SUFFIXES

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


def expand(arguments: list[str]) -> Iterator[Source]:
    """Checks every argument at once, then yields the pictures one by one; folders are walked as they are reached.

    Raises:
        RequestError: an argument names nothing; raised before the first picture.
    """
    for argument in arguments:
        if argument != "-" and not Path(argument).exists() and not _matches(argument):
            raise RequestError(f"no file, folder or glob match: {argument}", "check the path")
    return _stream(arguments)


def _stream(arguments: list[str]) -> Iterator[Source]:
    for argument in arguments:
        path = Path(argument)
        if argument == "-":
            yield Source("-", _standard_input(), Path("stdin.png"))
        elif path.is_dir():
            yield from _folder(path)
        elif path.exists():
            yield Source(argument, path, Path(path.name))
        else:
            for match in _matches(argument):
                if Path(match).is_dir():
                    yield from _folder(Path(match))
                else:
                    yield Source(match, Path(match), Path(Path(match).name))


def _matches(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  # Path.glob takes no absolute patterns


def _folder(folder: Path) -> Iterator[Source]:
    """Pictures below a folder, by suffix, in order; hidden files and folders are passed over."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from (Source(s.shown, s.content, Path(entry.name) / s.relative) for s in _folder(entry))
        elif entry.suffix.lower() in SUFFIXES:
            yield Source(str(entry), entry, Path(entry.name))


def _standard_input() -> bytes:
    content = sys.stdin.buffer.read(LARGEST_STDIN + 1)
    if len(content) > LARGEST_STDIN:
        raise RequestError(f"standard input is longer than {LARGEST_STDIN >> 20} MB", "give the picture as a file")
    return content
