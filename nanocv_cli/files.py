"""Atomic writes: a file is whole or it is not there, and what it replaces survives any failure."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nanocv_cli.errors import StorageError


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `target`; on success it is fsynced and renamed over `target`.

    For writers that want a file name. Whatever fails inside, `target` keeps its former content and the
    temporary file is removed.

    Raises:
        StorageError: the folder cannot be written or the disk is full.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
        os.close(descriptor)
    except OSError as error:
        raise _storage_error(target, error) from error
    temporary = Path(name)
    try:
        yield temporary
        fsync(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
        fsync(target.parent)
    except OSError as error:
        raise _storage_error(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


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


def expect_writable(target: Path | str) -> None:
    """Finds out before long work whether its result can be written.

    Raises:
        StorageError: it cannot.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
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
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise _storage_error(target, error) from error
    try:
        yield temporary
    except OSError as error:
        raise _storage_error(target, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _storage_error(target: Path, error: OSError) -> StorageError:
    return StorageError(
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
