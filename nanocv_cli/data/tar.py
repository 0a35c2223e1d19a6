"""Plain tar archives of files and folders, read by a policy of our own.

Python's `tarfile` and its filters have let archives write outside of their folder, and loop, in versions that nanocv
runs on (CVE-2007-4559, CVE-2025-4517, CVE-2025-8194). Here nothing but regular files and folders exists: links,
devices, pipes and sparse files are refused, names are checked, modes, owners and times are left aside. Only the layout
of a header is tarfile's.
"""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from nanocv_cli.untrusted import is_one_line, printable

BLOCK = tarfile.BLOCKSIZE
COPIED_AT_ONCE = 1 << 20
# Of names that follow in a record of their own, with what else such records hold.
LONGEST_RECORD = 1 << 16
LONGEST_NAME, LONGEST_PART, DEEPEST = 1000, 255, 64  # bytes, bytes, folders
# ImageNet-21k, the largest set in common use, has 14 million images in 1.3 TB.
MOST_MEMBERS = 20_000_000
LARGEST_CONTENT = 2 << 40
FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.GNUTYPE_LONGLINK: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


class UnsafeArchiveError(Exception):
    """A member that is not unpacked, and why."""


class DamagedArchiveError(Exception):
    """What is no tar archive, or not all of one."""


@dataclass(frozen=True)
class Member:
    """A file or a folder of an archive.

    Attributes:
        name: relative, without `..`, checked.
        size: bytes of a file; None for a folder.
    """

    name: PurePosixPath
    size: int | None


def unpack_tar(archive: BinaryIO, folder: Path) -> None:
    """Unpacks an archive into an empty folder that nobody else writes to.

    Raises:
        UnsafeArchiveError: a member is refused; what came before it has been written.
        DamagedArchiveError: it is no whole tar archive.
        OSError: the folder cannot be written.
    """
    for member in members(archive):
        target = folder / member.name
        try:
            if member.size is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            # Exclusive: a name that stands twice, by whatever rule the file system compares names, is refused.
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except (FileExistsError, NotADirectoryError) as error:
            raise UnsafeArchiveError(f"{member.name} stands there twice, or as a file and a folder") from error
        with os.fdopen(descriptor, "wb") as file:
            left = member.size
            while left:
                left -= file.write(_read(archive, min(left, COPIED_AT_ONCE)))
        _read(archive, -member.size % BLOCK)


def members(archive: BinaryIO) -> Iterator[Member]:
    """The members in their order; the content of a file, to the end of its last block, has to be read or passed before
    the next one is asked for.

    Raises:
        UnsafeArchiveError: a member is refused.
        DamagedArchiveError: it is no whole tar archive.
    """
    count = total = 0
    extended: dict[str, str] = {}
    while (header := archive.read(BLOCK)).strip(b"\0"):
        info = _header(header)
        if info.type == tarfile.GNUTYPE_LONGNAME:
            extended["path"] = _text(_record(archive, info.size).rstrip(b"\0"))
        elif info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            extended |= _pax(_record(archive, info.size))
        elif info.type == tarfile.XGLTYPE:  # what holds for all members, such as a commit: nothing that is used
            _record(archive, info.size)
        else:
            name, size = extended.get("path", info.name), _size(extended, info)
            if any(key.startswith("GNU.sparse.") for key in extended):
                raise UnsafeArchiveError(f"{_shown(name)} is a sparse file")
            count, total, extended = count + 1, total + size, {}
            if count > MOST_MEMBERS or total > LARGEST_CONTENT:
                raise UnsafeArchiveError(f"it has more than {MOST_MEMBERS:,} members, or {LARGEST_CONTENT >> 40} TiB")
            is_folder = info.isdir()
            if not is_folder and info.type not in FILES:
                kind = KINDS.get(info.type, f"of the unknown type {info.type!r}")
                raise UnsafeArchiveError(f"{_shown(name)} is {kind}")
            if is_folder and size:
                raise DamagedArchiveError(f"the folder {_shown(name)} has content")
            place = _checked(name)
            if place.parts:
                yield Member(place, None if is_folder else size)
            elif not is_folder:
                raise UnsafeArchiveError("a file has no name")
    if len(header) < BLOCK:
        raise DamagedArchiveError("it is cut short")


def _header(block: bytes) -> tarfile.TarInfo:
    if len(block) < BLOCK:
        raise DamagedArchiveError("it is cut short")
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise DamagedArchiveError(str(error)) from error


def _size(extended: dict[str, str], info: tarfile.TarInfo) -> int:
    text = extended.get("size", str(info.size))
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise DamagedArchiveError(f"a member is {_shown(text)} bytes long")
    return int(text)


def _record(archive: BinaryIO, size: int) -> bytes:
    if not 0 <= size <= LONGEST_RECORD:
        raise UnsafeArchiveError(f"a name is {size:,} bytes long")
    return _read(archive, size + -size % BLOCK)[:size]


def _pax(record: bytes) -> dict[str, str]:
    """The lines `LENGTH KEY=VALUE` of an extended header (POSIX pax)."""
    found: dict[str, str] = {}
    while record.strip(b"\0"):
        digits = record[:6].partition(b" ")[0]
        line = record[: int(digits)] if digits.isdigit() else b""
        key, equals, value = line[len(digits) + 1 : -1].partition(b"=")
        if not equals or not line.endswith(b"\n") or len(line) != int(digits):
            raise DamagedArchiveError("an extended header is no list of keys and values")
        found[_text(key)] = _text(value)
        record = record[len(line) :]
    return found


def _read(archive: BinaryIO, size: int) -> bytes:
    content = archive.read(size)
    if len(content) < size:
        raise DamagedArchiveError("it is cut short")
    return content


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _checked(name: str) -> PurePosixPath:
    """A member's name as a relative path.

    Raises:
        UnsafeArchiveError: it leads elsewhere, or is no name that every file system can hold.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]  # what is absolute begins here all the same
    if ".." in parts or "\\" in name or any(part[1:2] == ":" for part in parts):
        raise UnsafeArchiveError(f"{_shown(name)} would land outside of the folder")
    if not is_one_line(name):
        raise UnsafeArchiveError(f"{_shown(name)} holds control characters, or bytes that are no text")
    longest = max((len(part.encode()) for part in parts), default=0)
    if len(name.encode()) > LONGEST_NAME or longest > LONGEST_PART or len(parts) > DEEPEST:
        raise UnsafeArchiveError(f"{_shown(name)} is too long, or too deep")
    return PurePosixPath(*parts)


def _shown(name: str) -> str:
    return printable(name, 80)
