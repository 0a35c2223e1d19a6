"""Atomic writes: a file is whole or it is not there, and what it replaces survives any failure.

Until it is whole it bears a name of ours, beside its target. Its maker holds a lock on it for as long as it lives,
however it ends. What bears such a name and is not locked was left by a process that was killed; the next one that
writes into the same folder removes it.
"""

import errno
import fcntl
import json
import os
import shutil
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanocv_cli.errors import NO_SUCH_PATH, NanocvError, RequestError, StorageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREFIX = ".nanocv-part-"
LONGEST_SUFFIX = 16
TRIES = 100
AGAIN = "run the command again"  # in hints; who knows a better way puts that in its place

_swept: set[tuple[int, int]] = set()


@contextmanager
def atomic_path(target: Path | str, former: Path | None = None) -> Iterator[Path]:
    """Yields a temporary path beside `target`; on success it is fsynced and renamed over `target`.

    For writers that want a file name. Whatever fails inside, `target` keeps its former content and the
    temporary file is removed, as are folders that were made for it.

    Args:
        target: the file.
        former: where in the same folder its former content is kept; a process that is killed just between the two
            renames leaves that alone.

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
            if former and target.exists():
                target.replace(former)
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


def save_chart(figure: "Figure", target: Path, dpi: int = 120) -> Path:
    """Writes a figure as PNG, atomically (see `atomic_path`)."""
    with atomic_path(target) as temporary, warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box, which says enough.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(temporary, format="png", dpi=dpi)
    return target


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
        make_folder(folder)
        yield
    except BaseException:
        for path in missing:
            with suppress(OSError):  # others have put something there meanwhile
                path.rmdir()
        raise


def make_folder(folder: Path) -> None:
    """Makes a folder and those it lies in, where they are not there, and waits until their names are on the disk.

    Raises:
        OSError: one cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        fsync(path.parent)


def _storage_error(target: Path, error: OSError) -> NanocvError:
    kind = RequestError if error.errno in NO_SUCH_PATH else StorageError
    return kind(
        f"cannot write {target}: {error.strerror or error}",
        f"nothing was lost: free some space or choose a folder you can write to, then {AGAIN}",
    )


def fsync(path: Path) -> None:
    """Waits until a file, or the list of a folder's names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def part_file(parent: Path, suffix: str) -> Iterator[Path]:
    """Yields an empty file in `parent`; what still bears its name at the end is removed.

    Raises:
        OSError: it cannot be made.
    """

    def make(path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    path, descriptor = _made_part(parent, suffix if len(suffix.encode()) <= LONGEST_SUFFIX else "", make)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def part_folder(parent: Path) -> Iterator[Path]:
    """Yields an empty folder in `parent`; what still bears its name at the end is removed.

    Raises:
        OSError: it cannot be made.
    """

    def make(path: Path) -> int:
        path.mkdir()
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    path, descriptor = _made_part(parent, "", make)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def sweep(parent: Path) -> None:
    """Removes what killed processes left in a folder; never what a living one, on whatever machine, has locked."""
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and not entry.is_symlink():
                with suppress(OSError):
                    _remove_if_left(Path(entry.path))


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file or folder; False also where that cannot be found out."""
    # Neither waits for a pipe's writer nor follows a link.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def _made_part(parent: Path, suffix: str, make: Callable[[Path], int]) -> tuple[Path, int]:
    """A new entry of `parent`, and the descriptor that its lock goes with."""
    place = parent.stat()
    if (key := (place.st_dev, place.st_ino)) not in _swept:  # once: a folder may hold very many files
        _swept.add(key)
        sweep(parent)
    for _ in range(TRIES):
        path = parent / f"{PREFIX}{os.urandom(8).hex()}{suffix}"
        try:
            descriptor = make(path)
        except FileExistsError:
            continue
        except FileNotFoundError:
            if not parent.is_dir():
                raise
            continue  # somebody swept it before it was locked
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # a sweeper has it, and is about to remove it
            os.close(descriptor)
            continue
        except OSError:  # a file system without locks: nobody can take it for left there either
            pass
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return path, descriptor
        os.close(descriptor)
    raise OSError(errno.EEXIST, "no free name for a temporary file", str(parent))


def _remove_if_left(path: Path) -> None:
    # Neither waits for a pipe's writer nor follows a link.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            return
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where its maker lives
        if os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False)):
            if stat.S_ISDIR(mode):
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
    finally:
        os.close(descriptor)
