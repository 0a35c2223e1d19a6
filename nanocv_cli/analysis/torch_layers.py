"""What one call of a torch operator costs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nanocv_cli.analysis.layer import Layer, Product, Size, Values, attention, convolution, layout
from nanocv_cli.analysis.operators import OTHER, TORCH

ALLOCATIONS = {"empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided"}
POOLS = {"max_pool2d_with_indices", "avg_pool2d", "max_pool2d", "max_pool3d_with_indices", "avg_pool3d"}
MATMULS = {"mm": 0, "addmm": 1, "bmm": 0, "baddbmm": 1}


@dataclass(frozen=True)
class Call:
    """One call of an operator.

    Attributes:
        name: of the layer.
        operator: `namespace.operator`.
        args, kwargs: as called.
        weights: parameters and buffers among the arguments.
        inputs: all other tensors among them.
        outputs: tensors it returned.
        params: values of parameters used for the first time.
        per_image: an input depends on the images.
    """

    name: str
    operator: str
    args: Any
    kwargs: Mapping[str, Any]
    weights: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    params: int
    per_image: bool

    @property
    def base(self) -> str:
        """The operator's name alone; in place or not is the same work."""
        name = self.operator.rpartition(".")[2]
        return name.removesuffix("_")


def layer_of(call: Call) -> Layer:
    """The layer of a call; an operator nobody knows moves its values and is of the kind `other`."""
    if call.base == "convolution":
        return _convolution(call)
    if call.base in MATMULS:
        return _matmul(call)
    if call.base == "scaled_dot_product_attention":
        product, other = attention(*(tuple(tensor.shape) for tensor in call.args[:3]))
        width = call.args[0].shape[-1] * math.prod(call.args[0].shape[1:-2])
        tokens = (call.args[0].shape[-2],)
        return _layer(call, "attention", (width, tokens), (width, tokens), product=product, other_ops=other)
    if call.base in POOLS:
        kernel = _spread(call.args[1], len(call.outputs[0].shape) - 2)
        operations = math.prod(kernel) * call.outputs[0].numel()
        return _layer(call, "pool", kernel=_times(kernel), other_ops=operations)
    rule = TORCH.get(call.base, OTHER)
    source = call.inputs[0].numel() if call.inputs else 0
    operations = rule.per_output * call.outputs[0].numel() + rule.per_input * source
    return _layer(call, rule.kind, other_ops=operations)


def _convolution(call: Call) -> Layer:
    inputs, weight = call.args[0], call.args[1]
    transposed, groups = bool(call.args[6]), int(call.args[8])
    shape, out = tuple(inputs.shape), tuple(call.outputs[0].shape)
    product = convolution(out, tuple(weight.shape), groups, transposed_from=shape if transposed else None)
    # A detector's heads read the regions of one image as a batch, which may be empty.
    product = Product(product.rows * shape[0], product.columns, product.depth, product.count)
    kind = "conv2d" if weight.dim() == 4 else f"conv{weight.dim() - 2}d"
    return _layer(call, kind, layout(shape), layout(out), _times(tuple(weight.shape[2:])), product)


def _matmul(call: Call) -> Layer:
    first = MATMULS[call.base]
    left, right = tuple(call.args[first].shape), tuple(call.args[first + 1].shape)
    is_linear = len(left) == 2 and bool(call.weights)
    product = Product(left[-2], right[-1], left[-1], math.prod(left[:-2]), shared=is_linear)
    rows = (left[-2],) if left[-2] > 1 else ()
    kind = "linear" if is_linear else "matmul"
    return _layer(call, kind, (left[-1], rows), (right[-1], rows), product=product)


def _layer(
    call: Call,
    kind: str,
    source: tuple[int | None, Size] | None = None,
    target: tuple[int | None, Size] | None = None,
    kernel: str = "",
    product: Product | None = None,
    other_ops: int = 0,
) -> Layer:
    in_channels, in_size = source or (layout(tuple(call.inputs[0].shape)) if call.inputs else (None, ()))
    out_channels, out_size = target or layout(tuple(call.outputs[0].shape))
    return Layer(
        name=call.name,
        kind=kind,
        operator=call.operator,
        kernel=kernel,
        in_channels=in_channels,
        out_channels=out_channels,
        in_size=in_size,
        out_size=out_size,
        macs=product.macs if product else 0,
        other_ops=other_ops,
        params=call.params,
        weights=_values(call.weights),
        inputs=_values(call.inputs),
        # What follows the first output (indices of a maximum, saved statistics) is for training.
        outputs=_values(call.outputs if kind in ("other", "movement") else call.outputs[:1]),
        product=product,
        per_image=call.per_image,
    )


def _values(tensors: tuple[Tensor, ...]) -> Values:
    """Each tensor once; of one that is broadcast, only what is stored."""
    floats = fixed = 0
    for tensor in {id(tensor): tensor for tensor in tensors}.values():
        stored = math.prod(size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
        if tensor.is_floating_point():
            floats += stored
        else:
            fixed += stored * tensor.element_size()
    return Values(floats, fixed)


def _spread(size: Any, rank: int) -> tuple[int, ...]:
    values = tuple(size) if isinstance(size, list | tuple) else (size,)
    return values * rank if len(values) == 1 else values


def _times(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))
