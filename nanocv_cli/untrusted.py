"""What others wrote: names, texts and files that come from data, models, servers and the network.

None of it becomes a path, a line on a terminal, or an open file without passing one of these functions.
"""

import errno
import io
import os
import stat
import unicodedata
from collections.abc import Iterable
from pathlib import Path

LONGEST_IN_CHART = 60  # characters
LONGEST_NAME = 120  # bytes; file systems allow 255, and suffixes and numbers are added
UNWRITABLE = {"Cc", "Cs", "Zl", "Zp"}
RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))}


def safe_name(text: str) -> str:
    """A text as one file or folder name: the same for the same text, different for different ones, readable.

    Letters, digits, spaces and `._-()+,=@'` of any script stay; everything else, and what a file system or a shell
    gives a meaning to (separators, a leading dot or dash, Windows' device names), becomes `_`. A text that had to be
    changed or cut ends in eight hex digits of its hash, so that two of them never share a name.
    """
    kept = "".join(letter if letter.isalnum() or letter in " ._-()+,=@'" else "_" for letter in text)
    kept = unicodedata.normalize("NFC", kept).strip(" .")
    if kept.startswith(("-", "~")):
        kept = "_" + kept[1:]
    if kept == text and kept.split(".")[0].upper() not in RESERVED and 0 < len(kept.encode()) <= LONGEST_NAME:
        return kept
    import hashlib  # a hundredth of a second, which most commands do without

    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    readable = kept.encode(errors="replace")[: LONGEST_NAME - 9].decode(errors="ignore").rstrip(" .")
    return f"{readable or 'name'}-{digest}"


def safe_names(texts: Iterable[str]) -> dict[str, str]:
    """A safe name for each text; no two are one name, on a file system that ignores case either."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for text in texts:
        name, number = safe_name(text), 2
        stem = name.encode()[: LONGEST_NAME - 9].decode(errors="ignore")
        while _folded(name) in taken:
            name, number = f"{stem}-{number}", number + 1
        names[text] = name
        taken.add(_folded(name))
    return names


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


def is_plain(text: object, longest: int = 200) -> bool:
    """Whether something is a text to name things by: 1 to `longest` characters, none of them one that controls a
    terminal, ends a line, or is half of a surrogate pair.
    """
    return isinstance(text, str) and 0 < len(text) <= longest and is_one_line(text)


def escaped(text: object) -> str:
    """A text as one line that a terminal only shows: control characters, line ends and halves of surrogates escaped."""
    whole = str(text)
    if whole.isprintable():
        return whole
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode()
        for letter in whole
    )


def printable(text: object, longest: int = 200) -> str:
    """`escaped`, and short.

    Args:
        text: anything with a `str`.
        longest: characters; more are cut in the middle, where names differ least.
    """
    whole = str(text)
    shown = escaped(whole[: 2 * longest])
    if len(shown) <= longest and len(whole) <= 2 * longest:
        return shown
    half = (longest - 1) // 2
    return f"{shown[:half]}…{escaped(whole[-half:])[-half:]}"


def in_chart(name: str) -> str:
    """A name of others as a text of a chart: a `$` in it begins no formula, nothing in it breaks a line."""
    shown = printable(name, LONGEST_IN_CHART).replace("$", r"\$")
    # What begins with an underscore is left out of legends.
    return f" {shown}" if shown.startswith("_") else shown


def is_one_line(text: str) -> bool:
    """Whether a text is one line of characters that UTF-8 can write: no controls, no halves of surrogates."""
    return not any(unicodedata.category(letter) in UNWRITABLE for letter in text)


def first_line(error: BaseException, longest: int = 200) -> str:
    """The first line of a library's error, fit to stand in one of ours."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return printable(lines[0] if lines else type(error).__name__, longest)


def open_regular(path: Path | str) -> io.BufferedReader:
    """Opens a regular file for reading, through links; never waits for a pipe, never reads a device.

    Raises:
        OSError: it is no regular file (EINVAL), or cannot be opened.
    """
    # Opening a pipe without this flag waits for its writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path | str, largest: int) -> bytes:
    """A regular file's content, through links.

    Args:
        path: the file.
        largest: bytes.

    Raises:
        OSError: it is no regular file (EINVAL), larger (EFBIG), or cannot be read; `strerror` says which.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1) if size <= largest else b""
        if len(content) > size:  # it grows, or is one of those that do not tell their size
            content += file.read(largest - size)
    if size > largest or len(content) > largest:
        raise OSError(errno.EFBIG, f"larger than {largest:,} bytes", str(path))
    return content


def holds(path: Path | str, content: bytes) -> bool:
    """Whether a regular file, through links, has exactly this content; no more than its length is read.

    Raises:
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        return os.fstat(file.fileno()).st_size == len(content) and file.read(len(content) + 1) == content
