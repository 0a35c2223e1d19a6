"""One layer's work as numbers: multiply-adds, other operations, values moved, and how they grow with the batch."""

import math
from dataclasses import dataclass, replace

# Two per multiply-add, everywhere in nanocv: FLOPs are never multiply-adds under another name.
FLOPS_PER_MAC = 2
BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1}

Size = tuple[int, ...]


@dataclass(frozen=True)
class Values:
    """Values that are read or written.

    Attributes:
        floats: how many of them take the size of the data type that is asked about.
        fixed_bytes: bytes of all others (uint8 images, int64 indices), whatever that type is.
    """

    floats: int = 0
    fixed_bytes: int = 0

    def __add__(self, other: "Values") -> "Values":
        return Values(self.floats + other.floats, self.fixed_bytes + other.fixed_bytes)

    def bytes(self, dtype: str) -> int:
        """In memory, with floats stored as `dtype`."""
        return self.floats * BYTES[dtype] + self.fixed_bytes


@dataclass(frozen=True)
class Product:
    """The matrix product a layer is, or is computed as (a convolution by implicit GEMM).

    Attributes:
        rows: of the result, for one image; with `shared` the images of a batch stand below one another.
        columns: of the result.
        depth: length of each dot product.
        count: independent products for one image (groups, heads, windows).
        shared: all images are multiplied by the same weights.
    """

    rows: int
    columns: int
    depth: int
    count: int = 1
    shared: bool = True

    @property
    def macs(self) -> int:
        """Multiply-adds for one image."""
        return self.rows * self.columns * self.depth * self.count

    def batched(self, batch: int) -> "Product":
        """For a whole batch."""
        return replace(self, rows=self.rows * batch) if self.shared else replace(self, count=self.count * batch)


@dataclass(frozen=True)
class Layer:
    """One operation of a model, for one image.

    The byte model: each operation reads its inputs and weights once and writes its outputs once; nothing stays on
    the chip between two operations, and views move nothing.

    Attributes:
        name: of the module or node.
        kind: conv2d, linear, matmul, attention, pool, norm, activation, elementwise, softmax, reduction, resize,
            movement, or other (an operation whose arithmetic is not counted).
        operator: torch's or ONNX's name for it.
        kernel: height x width, where there is one.
        in_channels, out_channels: None where the notion does not apply.
        in_size, out_size: spatial sizes (height, width), or tokens.
        macs: multiply-adds of convolutions and matrix products; biases are not counted.
        other_ops: all other arithmetic (docs/analysis.md says how much each kind has).
        params: trainable values that are first used here.
        weights: values that are read whatever the batch.
        inputs, outputs: values read and written for each image.
        product: of layers that multiply matrices.
        per_image: False for work that depends on weights alone and is done once for a batch of any size.
    """

    name: str
    kind: str
    operator: str
    kernel: str = ""
    in_channels: int | None = None
    out_channels: int | None = None
    in_size: Size = ()
    out_size: Size = ()
    macs: int = 0
    other_ops: int = 0
    params: int = 0
    weights: Values = Values()
    inputs: Values = Values()
    outputs: Values = Values()
    product: Product | None = None
    per_image: bool = True

    def _times(self, batch: int) -> int:
        return batch if self.per_image else 1

    def flops(self, batch: int = 1) -> int:
        """Two per multiply-add."""
        return FLOPS_PER_MAC * self.macs * self._times(batch)

    def operations(self, batch: int = 1) -> int:
        """All arithmetic: FLOPs of multiply-adds and the other operations."""
        return (FLOPS_PER_MAC * self.macs + self.other_ops) * self._times(batch)

    def bytes(self, dtype: str, batch: int = 1) -> int:
        """Moved by the byte model above."""
        moved = self.inputs.bytes(dtype) + self.outputs.bytes(dtype)
        return self.weights.bytes(dtype) + moved * self._times(batch)

    def intensity(self, dtype: str, batch: int = 1) -> float:
        """Arithmetic intensity: operations per byte; 0 for a layer that moves nothing."""
        moved = self.bytes(dtype, batch)
        return self.operations(batch) / moved if moved else 0.0


@dataclass(frozen=True)
class Model:
    """A model as the list of its layers.

    Attributes:
        name: for people.
        inputs: each input's name, type and shape for one image, such as `images float32 [1,3,224,224]`.
        layers: in the order they run.
        params: all trainable values, each counted once.
        assumptions: what had to be assumed to count at all, one line each.
        least_macs: of a model whose work depends on the images (a detector with heads for its regions), the
            multiply-adds of an image in which nothing is found; the layers are those of the most.
    """

    name: str
    inputs: tuple[str, ...]
    layers: tuple[Layer, ...]
    params: int
    assumptions: tuple[str, ...] = ()
    least_macs: int | None = None

    @property
    def macs(self) -> int:
        """Multiply-adds for one image."""
        return sum(layer.macs for layer in self.layers)

    def flops(self, batch: int = 1) -> int:
        """Two per multiply-add."""
        return sum(layer.flops(batch) for layer in self.layers)

    def operations(self, batch: int = 1) -> int:
        """All arithmetic that is counted."""
        return sum(layer.operations(batch) for layer in self.layers)

    def bytes(self, dtype: str, batch: int = 1) -> int:
        """Sum over the layers."""
        return sum(layer.bytes(dtype, batch) for layer in self.layers)

    def intensity(self, dtype: str, batch: int = 1) -> float:
        """Of the whole."""
        moved = self.bytes(dtype, batch)
        return self.operations(batch) / moved if moved else 0.0

    def uncounted(self) -> dict[str, int]:
        """Operators whose arithmetic is not counted, and how often each runs."""
        found: dict[str, int] = {}
        for layer in self.layers:
            if layer.kind == "other":
                found[layer.operator] = found.get(layer.operator, 0) + 1
        return found


def layout(shape: Size) -> tuple[int | None, Size]:
    """Channels and spatial size of a tensor by its rank: [N,C,H,W], [N,tokens,C] or [N,C]."""
    if len(shape) >= 4:
        return shape[1], shape[2:]
    if len(shape) == 3:
        return shape[2], shape[1:2]
    return (shape[1], ()) if len(shape) == 2 else (None, ())


def convolution(output: Size, weight: Size, groups: int, transposed_from: Size | None = None) -> Product:
    """`2*N*OUT*IN*Kx*Ky*Hout*Wout/groups` FLOPs, for N = 1, as a matrix product.

    Args:
        output: [1, OUT, spatial...].
        weight: [OUT, IN/groups, kernel...]; of a transposed convolution [IN, OUT/groups, kernel...].
        groups: of channels.
        transposed_from: the input [1, IN, spatial...] of a transposed convolution, each value of which meets each
            kernel position once.
    """
    kernel = math.prod(weight[2:])
    if transposed_from is None:
        return Product(math.prod(output[2:]), weight[0] // groups, weight[1] * kernel, groups)
    return Product(math.prod(transposed_from[2:]), weight[1] * kernel, weight[0] // groups, groups)


def attention(query: Size, key: Size, value: Size) -> tuple[Product, int]:
    """Scaled dot-product attention (arXiv:1706.03762): `2*B*H*L*S*(E+Ev)` FLOPs, and its other operations.

    Args:
        query: [..., L, E].
        key: [..., S, E].
        value: [..., S, Ev].

    Returns:
        both products as one of the same arithmetic, and scaling plus softmax (6 for each score).
    """
    length, width = query[-2:]
    heads, keys = math.prod(query[:-2]), key[-2]
    product = Product(length, keys, width + value[-1], heads, shared=False)
    return product, 6 * heads * length * keys
