"""JSON that others wrote, read within bounds."""

import json
import re
from typing import Any

from nanocv_cli.serving.embedded.faults import Fault

DEEPEST = 40  # a tensor's lists may be nested by its rank, in a document of five levels
MOST_CONTAINERS = 1 << 18  # each of them takes twenty times its text in memory; an image of 512x512 has as many pixels
WRONG = "failed to parse the request JSON buffer"
STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def parse_object(text: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        Fault: it is none, or one beyond the bounds.
    """
    expect_bounded(text)
    try:
        document = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise Fault(f"{WRONG}: {error}") from error
    if not isinstance(document, dict):
        raise Fault(f"{WRONG}: expected an object")
    return document


def expect_bounded(text: bytes) -> None:
    """Finds out whether a text is worth parsing, by its brackets alone.

    Raises:
        Fault: they are too many, nested too deeply, or do not match.
    """
    containers = text.count(b"[") + text.count(b"{")
    if containers <= DEEPEST:
        return
    if containers > MOST_CONTAINERS:
        raise Fault(f"{WRONG}: it holds more than {MOST_CONTAINERS:,} lists and objects; send tensors as binary data")
    brackets = STRING.sub(b"", text).translate(None, NO_BRACKETS)
    for _ in range(DEEPEST):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    if brackets:
        raise Fault(f"{WRONG}: it is nested more than {DEEPEST} deep, or its brackets do not match")
