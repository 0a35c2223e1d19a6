"""Folders replaced in one step, for readers that look at any moment: they find the old one or the new one, whole.

Linux and macOS exchange two folders in one system call, if the file system can. Elsewhere it takes two renames;
between them the folder is absent, and a process killed just there leaves it so until the next `staging` puts the
former one back.
"""

import ctypes
import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nanocv_cli.errors import StorageError
from nanocv_cli.files import fsync

HERE = -100  # AT_FDCWD: paths are relative to the current folder, if they are
LINUX_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
MACOS_SWAP = 2  # RENAME_SWAP of renamex_np(2)
NOT_POSSIBLE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}  # what kernels and file systems without it answer
NEW, FORMER = "new", "former"


@contextmanager
def staging(parent: Path) -> Iterator[Path]:
    """Yields an empty folder in which the next content of a folder in `parent` can be built, for `put_in_place`.

    It lies beside `parent`, as `.<name>.staging`, not inside: a server takes whatever is inside for one of its own.
    One process has it at a time; another one waits. What a killed process left in it is removed first.

    Raises:
        StorageError: `parent` or the folder beside it cannot be written, or they lie on different file systems.
    """
    place = parent.parent / f".{parent.name}.staging"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        if parent.stat().st_dev != parent.parent.stat().st_dev:
            raise StorageError(
                f"{parent} is the root of its own file system, so nothing can be prepared beside it",
                "choose a folder below it",
            )
        descriptor = _locked(place)
    except OSError as error:
        raise _failed(place, error) from error
    try:
        _sweep(place, parent)
        (place / NEW).mkdir()
        (place / FORMER).mkdir()
        yield place / NEW
    except OSError as error:
        raise _failed(parent, error) from error
    finally:
        # Removed while it is locked: whoever waits for it sees that and makes another.
        shutil.rmtree(place, ignore_errors=True)
        os.close(descriptor)


def put_in_place(new: Path, target: Path) -> None:
    """Replaces the folder `target` by `new`, a finished folder within `staging`, in one step; both are then on disk.

    Raises:
        OSError: it cannot be done; `target` is as before.
    """
    _fsync_tree(new)
    if not target.exists():
        new.rename(target)
    elif not _exchanged(new, target):
        former = new.parent.parent / FORMER / target.name
        target.rename(former)
        try:
            new.rename(target)
        except OSError:
            former.rename(target)
            raise
    fsync(target.parent)


def _locked(place: Path) -> int:
    """Makes the folder and waits until this process alone has it; the lock goes with the descriptor."""
    while True:
        place.mkdir(exist_ok=True)
        try:
            descriptor = os.open(place, os.O_RDONLY)
        except FileNotFoundError:  # its former owner has just removed it
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), place.stat()):
                return descriptor
        os.close(descriptor)


def _sweep(place: Path, parent: Path) -> None:
    """Empties what a killed process left, after what it had set aside is back where it was."""
    for former in place.glob(f"{FORMER}/*"):
        if not (parent / former.name).exists():
            former.rename(parent / former.name)
    for left in place.iterdir():
        shutil.rmtree(left)


def _exchanged(first: Path, second: Path) -> bool:
    """Exchanges two folders; False where the system has no call for it."""
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(first), os.fsencode(second)
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        status = library.renamex_np(*names, ctypes.c_uint(MACOS_SWAP))
    elif sys.platform == "linux" and hasattr(library, "renameat2"):
        status = library.renameat2(HERE, names[0], HERE, names[1], ctypes.c_uint(LINUX_EXCHANGE))
    else:
        return False
    if status == 0:
        return True
    number = ctypes.get_errno()
    if number in NOT_POSSIBLE:
        return False
    raise OSError(number, os.strerror(number), str(second))


def _fsync_tree(folder: Path) -> None:
    for current, _, names in os.walk(folder, topdown=False):
        for name in names:
            if not (path := Path(current, name)).is_symlink():
                fsync(path)
        fsync(Path(current))


def _failed(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"cannot write {path}: {error.strerror or error}",
        "what stood there is untouched: free some space or choose a folder you can write to, then run it again",
    )
