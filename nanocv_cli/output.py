"""What a command prints: lines for people, which a terminal only shows, and documents for programs, exact.

Names and texts in these lines come from files, models and servers of others; no character of theirs moves a cursor,
begins a line or turns the direction of writing. Programs read the very text, as JSON in ASCII.
"""

import contextlib
import json
import math
import os
import sys
from typing import IO, Any

from nanocv_cli.errors import NanocvError, StorageError
from nanocv_cli.untrusted import escaped, printable

LONGEST_MESSAGE = 1000  # characters of an error's line; programs read all of it


class OutputError(StorageError):
    """Standard output takes no more: what it was redirected to is full, say."""

    advice = "free some space where the output goes, and run it again"


def tell(*lines: str) -> None:
    """Prints results for people on stdout, each text as one line.

    Raises:
        OutputError: stdout takes no more.
        BrokenPipeError: its reader has gone (`nanocv ... | head`).
    """
    _write("".join(f"{escaped(line)}\n" for line in lines))


def emit(document: Any) -> None:
    """Prints one JSON document on stdout, on one line; NaN and infinities become null.

    Raises:
        OutputError, BrokenPipeError: see `tell`.
    """
    _write(json_line(document))


def json_line(document: Any) -> str:
    """A document as `emit` prints it, with its line end."""
    try:
        text = json.dumps(document, allow_nan=False)
    except ValueError:
        text = json.dumps(finite(document), allow_nan=False)
    return f"{text}\n"


def say(text: str = "", stream: IO[str] | None = None) -> None:
    """Prints a line of progress or advice on stderr, or another stream, where it never mixes with results.

    Work goes on where nobody can hear of it: a stream that takes no more is no failure.
    """
    stream = stream or sys.stderr
    with contextlib.suppress(OSError, ValueError):  # full, or closed
        stream.write(f"{escaped(text)}\n")
        stream.flush()


def say_failure(failure: NanocvError) -> None:
    """One line what, one line what to do, on stderr."""
    say(f"error: {printable(failure.message, LONGEST_MESSAGE)}")
    say(f"  try: {printable(failure.hint, LONGEST_MESSAGE)}")


def prepare_streams() -> None:
    """Makes stdout and stderr take every text, in whatever encoding they have, and stands in for closed streams."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller (`>&-`): the next file that is opened would get its number
            _redirect_to_nowhere(number)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  # a number has no path
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def silence() -> None:
    """Drops what stdout still holds, so that Python does not fail to write it at its end."""
    with contextlib.suppress(OSError, ValueError):  # it may be no file at all
        _redirect_to_nowhere(sys.stdout.fileno())


def _redirect_to_nowhere(number: int) -> None:
    descriptor = os.open(os.devnull, os.O_RDWR)
    if descriptor != number:
        os.dup2(descriptor, number)
        os.close(descriptor)


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"the output cannot be written: {error.strerror or error}") from error


def finite(value: Any) -> Any:
    """Nested values with null for NaN and infinities, which JSON has no numbers for."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
