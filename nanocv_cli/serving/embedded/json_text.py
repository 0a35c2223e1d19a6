"""JSON that others wrote, read within bounds; tensors as JSON, and how long they will be."""

import json
import re
from typing import Any

import numpy as np

from nanocv_cli.engine.signature import NUMPY_TYPES
from nanocv_cli.serving.embedded.faults import Fault, shown
from nanocv_cli.serving.embedded.tensors import Array, as_bytes, elements

DEEPEST = 40  # a tensor's lists may be nested by its rank, in a document of five levels
DEEPEST_TENSOR = 16  # lists in lists
MOST_CONTAINERS = 1 << 18  # each of them takes twenty times its text in memory; an image of 512x512 has as many pixels
WRONG = "failed to parse the request JSON buffer"
STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
STEP = 1 << 12  # values that are worked on at once: a larger step would keep the interpreter from all other threads
# The most characters of one value and its comma in JSON.
TEXT_WIDTH = {1: 5, 2: 7, 4: 12, 8: 21}
FLOAT_WIDTH, ESCAPED = 25, 6

ENCODE = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


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


def from_values(values: Any, datatype: str, shape: tuple[int, ...], name: str) -> Array:
    """A tensor from JSON values, nested or flat.

    Raises:
        Fault: there are more or fewer than the shape holds, or one is not of the type.
    """
    flat: list[Any] = []
    _flatten(values, flat, elements(shape), depth=0)
    if len(flat) != elements(shape):
        raise Fault("Unable to parse 'data': Shape does not match true shape of 'data' field")
    if datatype == "BYTES":
        if not all(isinstance(value, str) for value in flat):
            raise Fault(f"Unable to parse 'data': input '{shown(name)}' takes strings")
        array = np.empty(len(flat), np.object_)
        try:
            array[:] = [value.encode() for value in flat]
        except UnicodeEncodeError as error:
            raise Fault(f"Unable to parse 'data': input '{shown(name)}' has a string that is no text") from error
        return array.reshape(shape)
    kind = np.dtype(NUMPY_TYPES[datatype])
    allowed: tuple[type, ...] = {"b": (bool,), "f": (int, float)}.get(kind.kind, (int,))
    if not all(isinstance(value, allowed) and (kind.kind == "b" or not isinstance(value, bool)) for value in flat):
        raise Fault(f"Unable to parse 'data': input '{shown(name)}' takes values of {datatype}")
    numbers = np.empty(len(flat), kind)
    try:
        for place in range(0, len(flat), STEP):
            numbers[place : place + STEP] = np.array(flat[place : place + STEP], kind)
    except (OverflowError, ValueError) as error:
        raise Fault(f"Unable to parse 'data': input '{shown(name)}' has a value beyond {datatype}") from error
    return numbers.reshape(shape)


def to_text(array: Array) -> str:
    """The tensor as a flat list in JSON.

    Raises:
        Fault: as `to_values`.
    """
    flat = array.ravel()
    parts = (ENCODE(to_values(flat[place : place + STEP]))[1:-1] for place in range(0, flat.size, STEP))
    return f"[{','.join(parts)}]"


def to_values(array: Array) -> list[Any]:
    """The tensor as a flat list for JSON; BYTES must be UTF-8.

    Raises:
        Fault: BYTES that are no text, or a value that JSON does not have.
    """
    if array.dtype == np.object_:
        try:
            return [as_bytes(value).decode() for value in array.ravel()]
        except UnicodeDecodeError as error:
            raise Fault("an output's BYTES are not UTF-8; ask for it as binary data") from error
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise Fault("an output holds values that JSON does not have (NaN or infinity); ask for it as binary data")
    values: list[Any] = array.ravel().tolist()
    return values


def text_size(array: Array) -> int:
    """How many characters `to_text` makes of it at most."""
    if array.dtype == np.object_:
        return sum(3 + ESCAPED * len(as_bytes(text)) for text in array.ravel())
    if array.dtype.kind == "f":
        return FLOAT_WIDTH * array.size
    return array.size * (6 if array.dtype.kind == "b" else TEXT_WIDTH[array.dtype.itemsize])


def _flatten(values: Any, into: list[Any], limit: int, depth: int) -> None:
    if depth > DEEPEST_TENSOR:
        raise Fault("Unable to parse 'data': nested too deeply")
    if not isinstance(values, list):
        raise Fault("Unable to parse 'data': expected a list")
    if values and not isinstance(values[0], list):
        into.extend(values)
        return
    for value in values:
        _flatten(value, into, limit, depth + 1)
        if len(into) > limit:
            return
