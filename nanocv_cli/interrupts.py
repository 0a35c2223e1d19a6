"""Ctrl-C and SIGTERM: both end a command in the same way, by an exception that lets every cleanup run.

A training instead takes the first as a request, which its loop honours at its next step; a second one ends it at once.

Python runs a signal's handler when the main thread is back in Python. A library that computes for long is told at once,
from a thread that wakes up with the signal.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_CODE = 130

_at_once: list[Callable[[], object]] = []
_watching = threading.Lock()


class Terminated(KeyboardInterrupt):
    """SIGTERM: like Ctrl-C, but sent to this process alone, not to all that the terminal runs."""


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """SIGTERM raises `Terminated` inside the block, as SIGINT raises `KeyboardInterrupt`.

    In the main thread; elsewhere, and where SIGTERM has a handler already, signals stay as they are.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is _terminate:  # nobody else has taken it meanwhile
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def keeping_interrupts() -> Iterator[None]:
    """An interrupt inside the block that a library drops for an error of its own comes out of it all the same.

    NumPy's C interface does so where its import is interrupted: Python prints the interrupt, and ImportError is raised.
    """
    former, dropped = sys.excepthook, list[BaseException]()

    def print_others(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            dropped.append(error)
        elif not dropped:  # else it follows from that
            former(kind, error, trace)

    sys.excepthook = print_others
    try:
        yield
    except Exception as error:
        if dropped:
            raise dropped[0] from error
        raise
    finally:
        sys.excepthook = former


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def tell_at_once(stop: Callable[[], object]) -> None:
    """Has `stop` called, in another thread, as soon as a signal comes that will raise in the main thread.

    For work in a library that does not return to Python meanwhile. What has a handler of its own (training's, a
    server's) is none of these signals.

    Args:
        stop: makes that work end; called whether it is going on or not.
    """
    if stop not in _at_once:
        _at_once.append(stop)
    if threading.current_thread() is threading.main_thread() and _watching.acquire(blocking=False):
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        threading.Thread(target=_watch, args=(reader,), name="interrupts", daemon=True).start()


def _watch(reader: int) -> None:
    while number := os.read(reader, 1):
        if number[0] in SIGNALS and signal.getsignal(number[0]) in (signal.default_int_handler, _terminate):
            for stop in _at_once:
                stop()


class Interrupts:
    """Whether the user has asked to stop."""

    def __init__(self) -> None:
        self.wanted = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True


@contextlib.contextmanager
def watch_interrupts() -> Iterator[Interrupts]:
    """Catches both inside the block (in the main thread; elsewhere signals stay as they are)."""
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    former = {number: signal.signal(number, interrupts._note) for number in SIGNALS}
    try:
        yield interrupts
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
