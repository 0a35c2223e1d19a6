"""A graph of a network that was trained in int8, in the form that engines know and compute in whole numbers.

torch's exporters write each layer's weights as floats with QuantizeLinear and DequantizeLinear behind them, and batch
norms as nodes of their own. Engines want what nncf writes: weights as int8 with DequantizeLinear alone, and the norm in
their scales and the bias, or they compute in fp32. Both say the same numbers; the only difference is where a product is
rounded to float32.
"""

from collections import Counter
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from nanocv_cli.errors import ExportError
from nanocv_cli.models.onnx_exporter import all_nodes, inner_graphs, leave_out_unread

Array = NDArray[Any]
ROUNDED, RESTORED = "QuantizeLinear", "DequantizeLinear"


def whole_numbers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its weights as int8 and the batch norms behind them folded.

    Args:
        model: of a network with quantised layers; it is left as it is.

    Raises:
        ExportError: nothing in it is quantised.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = _Graph(copy.graph)
    for node in list(copy.graph.node):
        if node.op_type == RESTORED:
            graph.store_weight(node)
    for node in list(copy.graph.node):
        if node.op_type == "BatchNormalization":
            graph.fold_norm(node)
        elif node.op_type == "Transpose":
            graph.fold_transpose(node)
    graph.join_equal()
    graph.leave_out_unused()
    if not any(node.op_type == ROUNDED for node in copy.graph.node):
        raise ExportError("the graph has lost its int8: nothing in it is quantised", "try another torch version")
    return copy


class _Graph:
    """A graph that is changed in place; nodes in loops and branches within it are not looked at."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._source = {output: node for node in graph.node for output in node.output}
        used = [name for node in all_nodes(graph) for name in node.input] + [value.name for value in graph.output]
        self._users = Counter(used)
        self._computed: dict[str, Array] = {}
        # What the inputs decide. Nodes stand in the order in which they need each other.
        self._varying = {value.name for value in graph.input} - self._stored.keys()
        for node in graph.node:
            if any(inner_graphs(node)) or not self._varying.isdisjoint(node.input):
                self._varying.update(node.output)

    def store_weight(self, restored: onnx.NodeProto) -> None:
        """Weights that are rounded in the graph are stored as rounded; scales become stored values as well."""
        rounded = self._source.get(restored.input[0])
        scale, zero_point = self._value(restored.input[1]), self._value(restored.input[2])
        if rounded is None or rounded.op_type != ROUNDED or scale is None or zero_point is None:
            return
        names = [
            self._store(f"{restored.output[0]}_scale", scale),
            self._store(f"{restored.output[0]}_zero", zero_point),
        ]
        for node in (rounded, restored):
            del node.input[1:]
            node.input.extend(names)
        if (weight := self._value(rounded.input[0])) is None:
            return
        whole = np.rint(weight / _along(scale, weight, _axis(rounded))) + _along(zero_point, weight, _axis(rounded))
        limits = np.iinfo(zero_point.dtype)
        restored.input[0] = self._store(
            f"{rounded.input[0]}_{zero_point.dtype}", whole.clip(limits.min, limits.max).astype(zero_point.dtype)
        )

    def fold_norm(self, norm: onnx.NodeProto) -> None:
        """A batch norm behind a convolution of stored weights goes into their scales, signs and the bias."""
        convolution = self._source.get(norm.input[0])
        if convolution is None or convolution.op_type != "Conv" or self._users[norm.input[0]] > 1:
            return
        restored = self._source.get(convolution.input[1])
        whole = self._value(restored.input[0]) if restored and restored.op_type == RESTORED else None
        values = [self._value(name) for name in norm.input[1:5]]
        if restored is None or whole is None or any(value is None for value in values):
            return
        gain, shift, mean, variance = (np.asarray(value, np.float64) for value in values)
        epsilon = next((attribute.f for attribute in norm.attribute if attribute.name == "epsilon"), 1e-5)
        factor = gain / np.sqrt(variance + epsilon)
        scale, bias = self._value(restored.input[1]), np.zeros(len(factor))
        assert scale is not None, "stored by store_weight"
        if len(convolution.input) > 2:
            given = self._value(convolution.input[2])
            if given is None:
                return
            bias = given.astype(np.float64)
        name = norm.output[0]
        # A scale is more than 0: the sign goes into the weights, and so does a factor of 0.
        stored = self._store(f"{name}_int8", (whole * _along(np.sign(factor), whole, 0)).astype(np.int8))
        scales = self._store(f"{name}_scale", np.where(factor, np.abs(factor) * scale, scale).astype(np.float32))
        folded = onnx.helper.make_node(
            RESTORED, [stored, scales, restored.input[2]], [f"{name}_weight"], name=f"{restored.name}_folded", axis=0
        )
        biases = self._store(f"{name}_bias", (shift + (bias - mean) * factor).astype(np.float32))
        del convolution.input[1:]
        convolution.input.extend([folded.output[0], biases])
        convolution.output[0] = name
        self._graph.node.remove(norm)
        self._graph.node.insert(list(self._graph.node).index(convolution), folded)
        self._source |= {name: convolution, folded.output[0]: folded}

    def fold_transpose(self, transpose: onnx.NodeProto) -> None:
        """A stored weight that is transposed in the graph is stored so."""
        restored = self._source.get(transpose.input[0])
        whole = self._value(restored.input[0]) if restored and restored.op_type == RESTORED else None
        if restored is None or whole is None or whole.ndim != 2:
            return
        stored = self._store(f"{transpose.output[0]}_int8", np.ascontiguousarray(whole.T))
        turned = onnx.helper.make_node(
            RESTORED,
            [stored, *restored.input[1:]],
            [transpose.output[0]],
            name=transpose.name,
            axis=1 - _axis(restored),
        )
        place = list(self._graph.node).index(transpose)
        self._graph.node.remove(transpose)
        self._graph.node.insert(place, turned)
        self._source[turned.output[0]] = turned

    def join_equal(self) -> None:
        """A value that several layers round alike is rounded once."""
        seen: dict[tuple[object, ...], str] = {}
        names: dict[str, str] = {}
        for node in list(self._graph.node):
            if node.op_type not in (ROUNDED, RESTORED):
                continue
            values = [self._value(name) for name in node.input[1:]]
            first = names.get(node.input[0], node.input[0])
            key = (node.op_type, first, _axis(node), *(None if v is None else (v.dtype, v.tobytes()) for v in values))
            if None in key:
                continue
            if key in seen:
                names[node.output[0]] = seen[key]
                self._graph.node.remove(node)
            seen.setdefault(key, node.output[0])
        for node in all_nodes(self._graph):
            for place, name in enumerate(node.input):
                node.input[place] = names.get(name, name)

    def leave_out_unused(self) -> None:
        """Nodes and stored tensors that nothing reads any more."""
        del self._graph.initializer[:]
        self._graph.initializer.extend(self._stored.values())
        leave_out_unread(self._graph)

    def _store(self, name: str, value: Array) -> str:
        self._stored[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def _value(self, name: str) -> Array | None:
        """A tensor that depends on no input of the graph; None: it does."""
        if name in self._varying:
            return None
        if name in self._stored:
            return numpy_helper.to_array(self._stored[name])
        if name in self._computed:
            return self._computed[name]
        node = self._source[name]
        inputs = {name: self._value(name) for name in node.input if name}
        found = cast(list[Array], ReferenceEvaluator(node).run(None, inputs))
        self._computed[name] = np.asarray(found[list(node.output).index(name)])
        return self._computed[name]


def _axis(node: onnx.NodeProto) -> int:
    """Of a scale for each channel; onnx's default is 1."""
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)


def _along(values: Array, like: Array, axis: int) -> Array:
    """Values [C] that fit an axis of an array; a scalar as it is."""
    return values.reshape([-1 if n == axis else 1 for n in range(like.ndim)]) if values.ndim else values
