"""The name that was probably meant."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """`did you mean NAME?` for the known name most like `name`; empty where none is."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {prefix}{near[0]}?" if near else ""
