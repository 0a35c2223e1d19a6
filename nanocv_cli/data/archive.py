"""One archive per set: checked against its recorded hash, unpacked safely, and only when it has changed."""

import hashlib
import io
import json
import os
import shutil
from pathlib import Path

from nanocv_cli.data.tar import DamagedArchiveError, UnsafeArchiveError, unpack_tar
from nanocv_cli.errors import DataError
from nanocv_cli.files import folder_beside, write_json
from nanocv_cli.untrusted import open_regular, read_regular

STAMP = ".unpacked-from.json"
LARGEST_STAMP = 4096
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd", b"PK\x03\x04")


def is_unpacked(archive: Path, folder: Path) -> bool:
    """Whether `folder` was unpacked from `archive` as it is now, judged by the archive's size and time of change."""
    try:
        return bool(json.loads(read_regular(folder / STAMP, LARGEST_STAMP)) == _state(archive.stat()))
    except (OSError, ValueError, RecursionError):
        return False


def place_of(folder: Path) -> Path:
    """Where a set's folder is put: what it links to, if it is a link."""
    return Path(os.path.realpath(folder)) if folder.is_symlink() else folder


def expect_replaceable(folder: Path) -> None:
    """Finds out whether unpacking may put its result in the place of a folder.

    Raises:
        DataError: the folder holds what was not unpacked there, and would be lost.
    """
    hint = "move it away, or change the path of the set"
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is in the way of what is unpacked there", hint)
    if folder.is_dir() and not os.path.lexists(folder / STAMP) and any(folder.iterdir()):
        raise DataError(f"{folder} holds files that were not unpacked there", hint)


def unpack(archive: Path, folder: Path, expected_md5: str | None) -> None:
    """Replaces `folder` with the content of `archive`, atomically: a killed unpacking leaves the former folder.

    Args:
        archive: a plain tar file; see `tar.unpack_tar` for what it may hold.
        folder: where its content goes; empty, absent, or unpacked before.
        expected_md5: what DVC recorded; None skips the check.

    Raises:
        DataError: the hash differs, the archive is damaged or not safe, or `folder` holds something else.
        StorageError: the folder cannot be written.
    """
    folder = place_of(folder)
    expect_replaceable(folder)
    try:
        file = open_regular(archive)
    except OSError as error:
        raise DataError(f"{archive} cannot be read: {error.strerror}", "check the path and its permissions") from error
    with file:
        if expected_md5 and (actual := md5_of(file)) != expected_md5:
            raise DataError(
                f"{archive} has MD5 {actual}, but dvc.lock records {expected_md5}",
                f"delete {archive} and pull it again, or run dvc repro if you changed how it is made",
            )
        file.seek(0)
        if file.read(6).startswith(COMPRESSED):
            raise DataError(f"{archive} is compressed, which gains nothing with images", "pack it as plain tar")
        file.seek(0)
        with folder_beside(folder) as temporary:
            try:
                unpack_tar(file, temporary)
                if (temporary / STAMP).is_dir():
                    raise UnsafeArchiveError(f"{STAMP} is a folder")
            except UnsafeArchiveError as error:
                raise DataError(f"{archive} is not safe to unpack: {error}", "do not use this archive") from error
            except DamagedArchiveError as error:
                raise DataError(
                    f"{archive} is no whole tar file: {error}", f"delete {archive} and pull it again"
                ) from error
            adopt(temporary, folder, os.fstat(file.fileno()))


def adopt(content: Path, folder: Path, archive: os.stat_result) -> None:
    """Puts the finished folder `content` in the place of `folder` and stamps it as unpacked from an archive.

    Raises:
        DataError: see `expect_replaceable`.
        OSError: it cannot be written.
    """
    expect_replaceable(folder)
    write_json(content / STAMP, _state(archive))
    content.chmod(0o755)
    former = folder.with_name(f".{folder.name}.former")
    shutil.rmtree(former, ignore_errors=True)
    if folder.exists():
        folder.replace(former)
    content.replace(folder)
    shutil.rmtree(former, ignore_errors=True)


def md5_of(file: io.BufferedReader) -> str:
    """Of a file's content, hex: the hash that DVC records (it guards against accidents, not against malice)."""
    return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _state(status: os.stat_result) -> dict[str, int]:
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
