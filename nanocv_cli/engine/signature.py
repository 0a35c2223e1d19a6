"""What a model takes and gives: its tensors by name, type and shape; types and values as each side has them."""

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTH = struct.Struct("<I")  # before each of BYTES


@dataclass(frozen=True)
class TensorSignature:
    """One input or output.

    Attributes:
        name: as the graph has it.
        type: ONNX Runtime's name, such as `tensor(uint8)`.
        shape: with the batch first; None for a size that varies.
    """

    name: str
    type: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class GraphSignature:
    """All inputs and outputs of a graph, in its order.

    Attributes:
        inputs: that have to be given.
        outputs: all of them.
        settings: inputs that have a value of their own, and may be left out.
    """

    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]
    settings: tuple[TensorSignature, ...] = field(default=(), compare=False)


NUMPY_TYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}

# ONNX Runtime's names of those that a model's inputs and outputs have.
ONNX_TYPES = {
    "BOOL": "tensor(bool)",
    "UINT8": "tensor(uint8)",
    "UINT16": "tensor(uint16)",
    "UINT32": "tensor(uint32)",
    "UINT64": "tensor(uint64)",
    "INT8": "tensor(int8)",
    "INT16": "tensor(int16)",
    "INT32": "tensor(int32)",
    "INT64": "tensor(int64)",
    "FP16": "tensor(float16)",
    "FP32": "tensor(float)",
    "FP64": "tensor(double)",
}


def to_bytes(array: NDArray[Any]) -> bytes:
    """A tensor's raw bytes as KServe has them: little-endian, row-major; BYTES are each preceded by their length."""
    if array.dtype != np.object_:
        return array.tobytes()
    return b"".join(LENGTH.pack(len(text)) + text for text in map(as_bytes, array.ravel()))


def as_bytes(value: object) -> bytes:
    """An element of BYTES, as a graph may return it."""
    return value if isinstance(value, bytes) else str(value).encode()
