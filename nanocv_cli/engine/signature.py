"""What a graph takes and gives, in ONNX Runtime's words."""

from dataclasses import dataclass


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
    """All inputs and outputs of a graph, in its order."""

    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]
