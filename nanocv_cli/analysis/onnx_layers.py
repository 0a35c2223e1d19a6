"""What one ONNX node costs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from nanocv_cli.analysis.layer import Layer, Product, Size, Values, attention, convolution, layout
from nanocv_cli.analysis.onnx_shapes import Tensor
from nanocv_cli.analysis.operators import BILINEAR, NEAREST, ONNX, OTHER, Rule

CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "ConvTranspose": 1, "FusedConv": 1}
MATMULS = {"MatMul": 1, "Gemm": 1, "FusedMatMul": 1, "FusedGemm": 1, "MatMulInteger": 1, "QLinearMatMul": 3}
POOLS = {"MaxPool", "AveragePool", "LpPool"}
FLOATS = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
}
WIDTHS = {
    onnx.TensorProto.UINT8: 1,
    onnx.TensorProto.INT8: 1,
    onnx.TensorProto.BOOL: 1,
    onnx.TensorProto.UINT16: 2,
    onnx.TensorProto.INT16: 2,
    onnx.TensorProto.INT32: 4,
    onnx.TensorProto.UINT32: 4,
    onnx.TensorProto.INT64: 8,
    onnx.TensorProto.UINT64: 8,
}


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
        name: of the layer.
        operator: ONNX's operator type.
        attributes: by name.
        inputs: in the operator's order; one that is left out has no shape.
        is_weight: which of them are constants of the graph.
        outputs: in the operator's order.
        params: values of constants used for the first time.
    """

    name: str
    operator: str
    attributes: Mapping[str, Any]
    inputs: tuple[Tensor, ...]
    is_weight: tuple[bool, ...]
    outputs: tuple[Tensor, ...]
    params: int

    def shape(self, place: int) -> Size:
        """Of an input; empty where it is unknown."""
        return self.inputs[place].shape or () if place < len(self.inputs) else ()

    @property
    def out(self) -> Size:
        """Shape of the first output; empty where it is unknown."""
        return self.outputs[0].shape or () if self.outputs else ()


def layer_of(node: Node) -> Layer:
    """The layer of a node; an operator nobody knows moves its values and is of the kind `other`."""
    if node.operator in CONVOLUTIONS:
        return _convolution(node)
    if node.operator in MATMULS:
        return _matmul(node)
    if node.operator in ("Attention", "MultiHeadAttention") and all(len(node.shape(i)) == 4 for i in range(3)):
        product, other = attention(node.shape(0), node.shape(1), node.shape(2))
        return _layer(node, "attention", product=product, other_ops=other)
    if node.operator in POOLS:
        kernel = tuple(node.attributes.get("kernel_shape", ()))
        return _layer(node, "pool", kernel=kernel, other_ops=math.prod(kernel) * _count(node.out))
    if node.operator == "Einsum":
        return _einsum(node)
    rule = _resize(node) if node.operator in ("Resize", "Upsample") else ONNX.get(node.operator, OTHER)
    operations = rule.per_output * _count(node.out) + rule.per_input * _count(node.shape(0))
    return _layer(node, rule.kind, other_ops=operations)


def _resize(node: Node) -> Rule:
    mode = node.attributes.get("mode", b"nearest")
    return {b"nearest": NEAREST, b"linear": BILINEAR}.get(mode, OTHER)


def _convolution(node: Node) -> Layer:
    source, weight, out = node.shape(0), node.shape(CONVOLUTIONS[node.operator]), node.out
    if len(source) < 3 or len(weight) < 3 or len(out) < 3:
        return _layer(node, "other")
    transposed = source if node.operator == "ConvTranspose" else None
    product = convolution(out, weight, int(node.attributes.get("group", 1)), transposed_from=transposed)
    product = Product(product.rows * source[0], product.columns, product.depth, product.count)
    return _layer(node, f"conv{len(weight) - 2}d", kernel=weight[2:], product=product)


def _matmul(node: Node) -> Layer:
    second = MATMULS[node.operator]
    left, right, out = node.shape(0), node.shape(second), node.out
    if not left or not right or not out:
        return _layer(node, "other")
    depth = left[-2] if node.attributes.get("transA") and len(left) > 1 else left[-1]
    is_linear = len(right) == 2 and node.is_weight[second]
    columns = out[-1] if len(right) > 1 else 1
    rows = _count(out) // max(1, columns)
    if is_linear:
        product = Product(rows, columns, depth)
    else:
        heads = math.prod(out[:-2]) if len(out) > 2 else 1
        product = Product(rows // max(1, heads), columns, depth, heads, shared=False)
    sizes = (rows,) if rows > 1 else ()
    kind = "linear" if is_linear else "matmul"
    return _layer(node, kind, (depth, sizes), (columns, sizes), product=product)


def _einsum(node: Node) -> Layer:
    """Every combination of the letters is one multiply-add (for two operands)."""
    equation = node.attributes.get("equation", b"").decode().replace(" ", "")
    sources, _, result = equation.partition("->")
    terms = sources.split(",")
    sizes: dict[str, int] = {}
    for place, term in enumerate(terms):
        sizes |= dict(zip(term, node.shape(place), strict=False))
    if len(terms) != 2 or "." in equation or not result or any(letter not in sizes for letter in "".join(terms)):
        return _layer(node, "other")
    summed = math.prod(size for letter, size in sizes.items() if letter not in result)
    return _layer(node, "matmul", product=Product(math.prod(sizes[x] for x in result), 1, summed, shared=False))


def _layer(
    node: Node,
    kind: str,
    source: tuple[int | None, Size] | None = None,
    target: tuple[int | None, Size] | None = None,
    kernel: Size = (),
    product: Product | None = None,
    other_ops: int = 0,
) -> Layer:
    in_channels, in_size = source or layout(node.shape(0))
    out_channels, out_size = target or layout(node.out)
    pairs = list(zip(node.inputs, node.is_weight, strict=True))
    return Layer(
        name=node.name,
        kind=kind,
        operator=node.operator,
        kernel="x".join(map(str, kernel)),
        in_channels=in_channels,
        out_channels=out_channels,
        in_size=in_size,
        out_size=out_size,
        macs=product.macs if product else 0,
        other_ops=other_ops,
        params=node.params,
        weights=_values([tensor for tensor, is_weight in pairs if is_weight]),
        inputs=_values([tensor for tensor, is_weight in pairs if not is_weight]),
        outputs=_values(node.outputs if kind in ("other", "movement") else node.outputs[:1]),
        product=product,
        per_image=not all(node.is_weight),
    )


def _values(tensors: Any) -> Values:
    floats = sum(tensor.count for tensor in tensors if tensor.data_type in FLOATS)
    fixed = sum(tensor.count * WIDTHS.get(tensor.data_type, 0) for tensor in tensors if tensor.data_type not in FLOATS)
    return Values(floats, fixed)


def _count(shape: Size) -> int:
    return math.prod(shape) if shape else 0
