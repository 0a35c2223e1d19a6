"""KServe's tensor types and their bytes, to NumPy and back."""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.engine.signature import NUMPY_TYPES

DATATYPES = {np.dtype(kind): name for name, kind in NUMPY_TYPES.items()}
LENGTH = struct.Struct("<I")

Array = NDArray[Any]
Buffer = bytes | bytearray | memoryview


def elements(shape: tuple[int, ...]) -> int:
    """How many values a shape holds, in Python's unbounded integers."""
    count = 1
    for size in shape:
        count *= size
    return count


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
        texts = _split_texts(content, elements(shape))
        return None if texts is None else texts.reshape(shape)
    kind = np.dtype(NUMPY_TYPES[datatype])
    if elements(shape) * kind.itemsize != len(content):
        return None
    return np.frombuffer(content, kind).reshape(shape)


def to_bytes(array: Array) -> bytes:
    """The inverse of `from_bytes`."""
    if array.dtype != np.object_:
        return array.tobytes()
    return b"".join(LENGTH.pack(len(text)) + text for text in map(as_bytes, array.ravel()))


def byte_size(array: Array) -> int:
    """How many bytes `to_bytes` makes of it."""
    if array.dtype != np.object_:
        return array.nbytes
    return sum(LENGTH.size + len(as_bytes(text)) for text in array.ravel())


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


def as_bytes(value: object) -> bytes:
    """An element of BYTES, as a graph may return it."""
    return value if isinstance(value, bytes) else str(value).encode()
