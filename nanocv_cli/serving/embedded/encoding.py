"""What messages hold, to NumPy and back: KServe's tensors as raw bytes and as JSON, which is read within bounds."""

import json
import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.engine.signature import LENGTH, NUMPY_TYPES, as_bytes
from nanocv_cli.serving.embedded.faults import Fault, shown

Array = NDArray[Any]
Buffer = bytes | bytearray | memoryview

DATATYPES = {np.dtype(kind): name for name, kind in NUMPY_TYPES.items()}
MOST_VALUES = (1 << 63) // 8 - 1  # of an array of the widest type: its bytes are counted in 63 bits
DEEPEST = 40  # a tensor's lists may be nested by its rank, in a document of five levels
DEEPEST_TENSOR = 16  # lists in lists
MOST_CONTAINERS = 1 << 18  # each of them takes twenty times its text in memory; an image of 512x512 has as many pixels
NO_JSON = "failed to parse the request JSON buffer"
JSON_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
STEP = 1 << 12  # values that are worked on at once: a larger step would keep the interpreter from all other threads
CONSTANTS = {name: float(name) for name in ("NaN", "Infinity", "-Infinity")}  # which Python reads, and JSON has not
# The most characters of one value and its comma in JSON.
TEXT_WIDTH = {1: 5, 2: 7, 4: 12, 8: 21}
FLOAT_WIDTH, ESCAPED = 25, 6
ENCODE = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def elements(shape: tuple[int, ...]) -> int:
    """How many values a shape holds, in Python's unbounded integers."""
    count = 1
    for size in shape:
        count *= size
    return count


def can_be(shape: tuple[int, ...]) -> bool:
    """Whether an array can have a shape: one without values too has sizes, and NumPy multiplies those above 0."""
    return 0 not in shape or elements(tuple(size for size in shape if size)) <= MOST_VALUES


def from_bytes(content: Buffer, datatype: str, shape: tuple[int, ...]) -> Array | None:
    """A tensor from its raw little-endian bytes; None where their number does not fit the shape.

    Args:
        content: row-major values; BYTES are each preceded by their length as uint32.
        datatype: KServe's name.
        shape: no negative sizes.

    Returns:
        read-only; an object array of `bytes` for BYTES.
    """
    if datatype == "BYTES":
        texts = _split_texts(content, elements(shape)) if can_be(shape) else None
        return None if texts is None else texts.reshape(shape)
    kind = np.dtype(NUMPY_TYPES[datatype])
    if elements(shape) * kind.itemsize != len(content) or not can_be(shape):
        return None
    return np.frombuffer(content, kind).reshape(shape)


def byte_size(array: Array) -> int:
    """How many bytes `signature.to_bytes` makes of it."""
    if array.dtype != np.object_:
        return array.nbytes
    return sum(LENGTH.size + len(as_bytes(text)) for text in array.ravel())


def parse_object(text: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        Fault: it is none, or one beyond the bounds.
    """
    expect_bounded(text)
    try:
        document = json.loads(text.decode(), parse_constant=CONSTANTS.__getitem__)
    except (ValueError, RecursionError) as error:
        raise Fault(f"{NO_JSON}: {error}") from error
    if not isinstance(document, dict):
        raise Fault(f"{NO_JSON}: expected an object")
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
        raise Fault(f"{NO_JSON}: it holds more than {MOST_CONTAINERS:,} lists and objects; send tensors as binary data")
    brackets = JSON_STRING.sub(b"", text).translate(None, NO_BRACKETS)
    for _ in range(DEEPEST):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    if brackets:
        raise Fault(f"{NO_JSON}: it is nested more than {DEEPEST} deep, or its brackets do not match")


def from_values(values: Any, datatype: str, shape: tuple[int, ...], name: str, from_text: bool = True) -> Array:
    """A tensor from values, nested or flat, as JSON has them or a gRPC message, which holds BYTES as such.

    Args:
        values: as they were read.
        datatype: KServe's name.
        shape: no negative sizes.
        name: of the input, for messages.
        from_text: they stood in JSON, by `parse_object`, where an infinity may be a number too large; a message of
            gRPC has an infinity only where its client meant one.

    Raises:
        Fault: there are more or fewer than the shape holds, or one is not of the type.
    """
    flat: list[Any] = []
    _flatten(values, flat, elements(shape), depth=0)
    if len(flat) != elements(shape) or not can_be(shape):
        raise Fault("Unable to parse 'data': Shape does not match true shape of 'data' field")
    if datatype == "BYTES":
        if not all(isinstance(value, str | bytes) for value in flat):
            raise Fault(f"Unable to parse 'data': input '{shown(name)}' takes strings")
        array = np.empty(len(flat), np.object_)
        try:
            array[:] = [value if isinstance(value, bytes) else value.encode() for value in flat]
        except UnicodeEncodeError as error:
            raise Fault(f"Unable to parse 'data': input '{shown(name)}' has a string that is no text") from error
        return array.reshape(shape)
    kind = np.dtype(NUMPY_TYPES[datatype])
    allowed: tuple[type, ...] = {"b": (bool,), "f": (int, float)}.get(kind.kind, (int,))
    if not all(isinstance(value, allowed) and (kind.kind == "b" or not isinstance(value, bool)) for value in flat):
        raise Fault(f"Unable to parse 'data': input '{shown(name)}' takes values of {datatype}")
    numbers = np.empty(len(flat), kind)
    beyond = Fault(f"Unable to parse 'data': input '{shown(name)}' has a value beyond {datatype}")
    try:
        with np.errstate(over="raise"):
            for place in range(0, len(flat), STEP):
                numbers[place : place + STEP] = np.array(flat[place : place + STEP], kind)
    except (OverflowError, ValueError, FloatingPointError) as error:
        raise beyond from error
    if from_text and kind.kind == "f" and not np.isfinite(numbers).all() and not all(map(_is_meant, flat)):
        raise beyond
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


def _is_meant(value: float) -> bool:
    """Whether a value of JSON that is no finite number was written as one: Python reads 1e999 as infinity too."""
    return math.isfinite(value) or any(value is constant for constant in CONSTANTS.values())


def _split_texts(content: Buffer, count: int) -> Array | None:
    view, place, found = memoryview(content), 0, []
    # No text is shorter than its length field, so a lying shape is found out before memory is spent on it.
    if count * LENGTH.size > len(view):
        return None
    for _ in range(count):
        if place + LENGTH.size > len(view):
            return None
        end = place + LENGTH.size + LENGTH.unpack_from(view, place)[0]
        if end > len(view):
            return None
        found.append(bytes(view[place + LENGTH.size : end]))
        place = end
    if place != len(view):
        return None
    array = np.empty(count, np.object_)
    array[:] = found
    return array


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
