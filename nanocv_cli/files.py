"""Atomic writes: a file is whole or it is not there, and what it replaces survives any failure."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nanocv_cli.errors import NanocvError, RequestError, StorageError
from nanocv_cli.failures import NO_SUCH_PATH
from nanocv_cli.parts import part_file, part_folder


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `target`; on success it is fsynced and renamed over `target`.

    For writers that want a file name. Whatever fails inside, `target` keeps its former content and the
    temporary file is removed, as are folders that were made for it.

    Raises:
        RequestError: `target` is there and no regular file.
        StorageError: the folder cannot be written or the disk is full.
    """
    target = Path(target)
    try:
        expect_file(target)
        with _made_folder(target.parent), part_file(target.parent, target.suffix) as temporary:
            yield temporary
            fsync(temporary)
            temporary.replace(target)
            fsync(target.parent)
    except OSError as error:
        raise _storage_error(target, error) from error


def write_bytes(target: Path | str, content: bytes) -> None:
    """Writes `content` to `target` atomically (see `atomic_path`)."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)


def write_text(target: Path | str, content: str) -> None:
    """Writes `content` to `target` as UTF-8, atomically (see `atomic_path`)."""
    write_bytes(target, content.encode())


def write_json(target: Path | str, document: Any) -> None:
    """Writes `document` as indented JSON, atomically; NaN and infinities are refused with ValueError."""
    write_text(target, json.dumps(document, indent=2, allow_nan=False) + "\n")


def expect_file(target: Path | str) -> None:
    """Refuses a target that is there and is not a regular file, or a link to one.

    Raises:
        RequestError: it is a folder, a pipe, a device.
    """
    target = Path(target)
    if target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "no regular file"
        raise RequestError(f"{target} is {kind}; a file is to be written there", "name a file")


def expect_folder(target: Path | str) -> None:
    """Refuses a target that is there and no folder.

    Raises:
        RequestError: it is a file.
    """
    target = Path(target)
    if os.path.lexists(target) and not target.is_dir():
        kind = "a file" if target.is_file() else "no folder"
        raise RequestError(f"{target} is {kind}; a folder to write into is needed", "name a folder")


def expect_writable(target: Path | str) -> None:
    """Finds out before long work whether its result, a file, can be written; leaves nothing behind.

    Raises:
        RequestError: it is there and no regular file.
        StorageError: it cannot be written.
    """
    target = Path(target)
    try:
        expect_file(target)
        parent = next(folder for folder in target.absolute().parents if os.path.lexists(folder))
        with part_file(parent, ""):
            pass
    except OSError as error:
        raise _storage_error(target, error) from error


@contextmanager
def folder_beside(target: Path) -> Iterator[Path]:
    """Yields an empty temporary folder beside `target`, to be filled and renamed; what is left of it is removed.

    Raises:
        StorageError: the parent folder cannot be written, or the disk is full.
    """
    try:
        with _made_folder(target.parent), part_folder(target.parent) as temporary:
            yield temporary
    except OSError as error:
        raise _storage_error(target, error) from error


@contextmanager
def _made_folder(folder: Path) -> Iterator[None]:
    """The folder is there inside the block; where that fails, those that were made for it are removed again."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in missing:
            with suppress(OSError):  # others have put something there meanwhile
                path.rmdir()
        raise


def _storage_error(target: Path, error: OSError) -> NanocvError:
    kind = RequestError if error.errno in NO_SUCH_PATH else StorageError
    return kind(
        f"cannot write {target}: {error.strerror or error}",
        "nothing was lost: free some space or choose a folder you can write to, then run the command again",
    )


def fsync(path: Path) -> None:
    """Waits until a file, or the list of a folder's names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
