"""How much memory this machine has, whether what is asked for fits before it is taken, and keeping what is freed."""

import ctypes
import os
import sys

from nanocv_cli.errors import RequestError

GIB = 1 << 30
# What a model is fed may take this part of the memory: its layers take several times as much.
FED_PART = 16
UNKNOWN = 8 * GIB
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LARGEST_KEPT = 1 << 30


def physical_memory() -> int:
    """Bytes of memory of this machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # a system that does not tell
        return UNKNOWN


def expect_room(needed: int, what: str, hint: str) -> None:
    """Refuses to feed a model more than this machine can work on.

    Args:
        needed: bytes of what the model is fed at a time.
        what: that is, for people.
        hint: how to ask for less.

    Raises:
        RequestError: it is too much.
    """
    most = physical_memory() // FED_PART
    if needed > most:
        raise RequestError(
            f"{what} take {needed / GIB:,.1f} GiB to feed; of this machine's memory {most / GIB:,.1f} GiB is the most",
            hint,
        )


def keep_freed_memory() -> None:
    """Stops glibc from handing blocks under 1 GiB back to the kernel at every free.

    A step allocates the same few hundred megabytes as the one before; fetched anew, page by page, they cost a CPU about
    a tenth of the step. Elsewhere (macOS, musl) nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, 2 * LARGEST_KEPT - 1)
