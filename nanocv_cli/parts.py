"""Files and folders while they are written: under a name of ours beside their target, until they are whole.

Their maker holds a lock on each for as long as it lives, however it ends. What bears such a name and is not locked was
left by a process that was killed; the next one that writes into the same folder removes it.
"""

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = ".nanocv-part-"
LONGEST_SUFFIX = 16
TRIES = 100

_swept: set[tuple[int, int]] = set()


@contextmanager
def part_file(parent: Path, suffix: str) -> Iterator[Path]:
    """Yields an empty file in `parent`; what still bears its name at the end is removed.

    Raises:
        OSError: it cannot be made.
    """

    def make(path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    path, descriptor = _made(parent, suffix if len(suffix.encode()) <= LONGEST_SUFFIX else "", make)
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

    path, descriptor = _made(parent, "", make)
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


def _made(parent: Path, suffix: str, make: Callable[[Path], int]) -> tuple[Path, int]:
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
