"""What a class may be called: names come from folders and documents, and go into file names, configs and cards."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from nanocv_cli.errors import DataError
from nanocv_cli.untrusted import is_one_line, printable

LONGEST = 200  # characters
# The largest sets in common use have 22,000.
MOST_CLASSES = 50_000


def class_names(names: Iterable[str], source: Path | str) -> tuple[str, ...]:
    """The names as they are, each of them one line of text and none twice.

    Args:
        names: in label order.
        source: the file or folder that they stand in, for the message.

    Raises:
        DataError: a name is empty, too long, holds what is no text, or stands twice; or there are too many.
    """
    found = tuple(names)
    if len(found) > MOST_CLASSES:
        raise DataError(f"{source} names {len(found):,} classes", f"nanocv takes up to {MOST_CLASSES:,}")
    for name in found:
        if problem := name_problem(name):
            raise DataError(f"{source}: the class name '{printable(name, 40)}' {problem}", "rename the class")
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise DataError(f"{source}: the class {printable(twice[0], 40)} stands twice", "rename one, or join the two")
    return found


def name_problem(name: str) -> str:
    """Why a text can be no class name; empty where it can."""
    if not name.strip():
        return "is empty"
    if len(name) > LONGEST:
        return f"has {len(name):,} characters, of {LONGEST} at most"
    return "" if is_one_line(name) else "holds control characters, or bytes that are no text"
