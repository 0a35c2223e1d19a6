"""An ONNX graph as a list of layers, from its shapes alone: no torch, no weights read, nothing run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from nanocv_cli.analysis.layer import Layer, Model
from nanocv_cli.analysis.onnx_layers import Node, layer_of
from nanocv_cli.analysis.onnx_shapes import Tensor, element_type, images_in, shaped, tensors_of
from nanocv_cli.config.project import shown
from nanocv_cli.errors import ModelError, NanocvError
from nanocv_cli.untrusted import first_line

# Nodes that give memory, constants or another view of their input.
FREE = {
    "Constant", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Shape", "Size", "Dropout",
    "SequenceConstruct", "SequenceAt", "Optional",
}  # fmt: skip
MOST_NODES = 64  # that a constant is worked out from
# Arithmetic of single numbers, in which nothing can grow.
ARITHMETIC = {
    "Abs", "Add", "And", "Cast", "Ceil", "Constant", "Div", "Equal", "Floor", "Greater", "GreaterOrEqual", "Identity",
    "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Sub", "Where",
}  # fmt: skip
MOST_TURNS = 10_000  # of a loop
MOST_LAYERS = 200_000
PARAMETER_TYPES = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
    # Quantised weights are parameters too.
    onnx.TensorProto.INT8,
    onnx.TensorProto.UINT8,
}


@dataclass(frozen=True)
class Graph:
    """A graph that was read.

    Attributes:
        model: its layers.
        shapes: of its inputs, for one image.
    """

    model: Model
    shapes: dict[str, tuple[int, ...]]


def analyse_graph(
    path: Path, input_size: int | None = None, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Graph:
    """Reads a graph's layers for a batch of one.

    Args:
        path: an `.onnx` file of any origin.
        input_size: height and width of images, for a graph that leaves them open.
        shapes: of inputs by name, batch included, for whatever else it leaves open.

    Raises:
        ModelError: the file is no ONNX graph, or an open size is not given.
    """
    if not path.is_file():
        raise ModelError(f"no graph {path}", "check the path")
    try:
        return _analysed(path, input_size, dict(shapes or {}))
    except (NanocvError, MemoryError):
        raise
    except Exception as error:  # a graph of others may be wrong in any way, and onnx has no error tree
        raise ModelError(f"{path} is no ONNX graph that can be read: {first_line(error)}", "export it again") from error


def _analysed(path: Path, input_size: int | None, shapes: dict[str, tuple[int, ...]]) -> Graph:
    proto = onnx.load(str(path), load_external_data=False)
    proto, weights = shaped(proto, path, input_size, shapes)
    if not proto.graph.node:
        raise ModelError(f"{path} is no ONNX graph: it has no nodes", "export it again")
    reader = _GraphReader(weights)
    reader.read(proto.graph, 1)
    inputs = images_in(proto.graph, weights)
    sizes = {value.name: reader.tensors[value.name].shape or () for value in inputs}
    told = tuple(f"{value.name} {element_type(value)} {list(sizes[value.name])}" for value in inputs)
    model = Model(shown(path), told, tuple(reader.layers), reader.params, tuple(sorted(reader.assumptions)))
    return Graph(model, sizes)


class _GraphReader:
    def __init__(self, weights: frozenset[str]) -> None:
        self.layers: list[Layer] = []
        self.assumptions: set[str] = set()
        self.params = 0
        self.tensors: dict[str, Tensor] = {}
        self._constant: set[str] = set(weights)
        self._parameters: dict[str, int] = {}
        self._counted: set[str] = set()
        self._names: dict[str, int] = {}

    def read(self, graph: onnx.GraphProto, times: int) -> None:
        """Adds the layers of a graph, or of a loop's body that runs `times` times."""
        self.tensors |= tensors_of(graph)
        self._constant |= {tensor.name for tensor in graph.initializer}
        for name in self._constant & self.tensors.keys():
            found = self.tensors[name]
            if found.data_type in PARAMETER_TYPES and found.count > 1 and name not in self._counted:
                self._parameters[name] = found.count
                self._counted.add(name)
        for node in graph.node:
            self._read_node(graph, node, times)

    def _read_node(self, graph: onnx.GraphProto, node: onnx.NodeProto, times: int) -> None:
        names = [name for name in node.input if name]
        is_constant = all(name in self._constant for name in names)
        if is_constant:
            self._constant |= set(node.output)
        bodies = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
        if bodies:
            self._read_bodies(graph, node, bodies, times)
            return
        if node.op_type in FREE or (is_constant and node.op_type != "DequantizeLinear"):
            # A view of weights is those weights under another name; what only depends on them is folded when loaded.
            if names and names[0] in self._parameters:
                for output in node.output:
                    self._parameters[output] = self._parameters[names[0]]
            return
        fresh = sum(self._parameters.get(name, 0) for name in names)
        self.params += fresh
        for name in names:
            self._parameters.pop(name, None)
        unknown = Tensor("", None, 0)
        call = Node(
            name=self._unique(node.name or (node.output[0] if node.output else node.op_type)),
            operator=node.op_type,
            attributes={attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute},
            inputs=tuple(self.tensors.get(name, unknown) if name else unknown for name in node.input),
            is_weight=tuple(name in self._constant for name in node.input),
            outputs=tuple(self.tensors.get(name, unknown) for name in node.output),
            params=fresh,
        )
        missing = [name for name in (*names, *node.output) if name and self.tensors.get(name, unknown).shape is None]
        if missing:
            self.assumptions.add(
                f"the shape of {missing[0]} depends on values: what it takes part in counts as nothing"
            )
        layer = layer_of(call)
        if len(self.layers) + times > MOST_LAYERS:
            raise ValueError(f"its loops run more than {MOST_LAYERS:,} layers")
        # Parameters are counted where they are first used.
        self.layers += [layer, *[replace(layer, params=0)] * (times - 1)] if times else []

    def _read_bodies(
        self, graph: onnx.GraphProto, node: onnx.NodeProto, bodies: list[onnx.GraphProto], times: int
    ) -> None:
        if node.op_type == "If":
            self.assumptions.add("both branches of a condition are counted")
        elif node.op_type == "Loop":
            count = constant_value(graph, node.input[0]) if node.input and node.input[0] else None
            if count is not None and int(count) <= MOST_TURNS:
                times *= max(0, int(count))
            elif count is not None:
                self.assumptions.add(f"the loop {node.name} runs {int(count):,} times and is counted as if it ran once")
            else:
                self.assumptions.add(f"the loop {node.name} is counted as if it ran once")
        else:
            self.assumptions.add(f"the body of {node.op_type} {node.name} is counted as if it ran once")
        for body in bodies:
            self.read(body, times)

    def _unique(self, name: str) -> str:
        self._names[name] = self._names.get(name, 0) + 1
        return name if self._names[name] == 1 else f"{name}#{self._names[name]}"


def constant_value(graph: onnx.GraphProto, name: str) -> NDArray[np.generic] | None:
    """The value of a tensor that depends on initializers only, inputs with a default among them.

    Args:
        graph: that the tensor belongs to.
        name: of the tensor.

    Returns:
        the value; None where it is no single number, or depends on an input, or on more than a little arithmetic.
    """
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    wanted = [name]
    needed: list[onnx.NodeProto] = []
    taken: dict[str, onnx.TensorProto] = {}
    while wanted:
        current = wanted.pop()
        if current in initializers:
            if math.prod(initializers[current].dims) != 1:
                return None
            taken[current] = initializers[current]
        elif current not in makers or len(needed) == MOST_NODES or makers[current].op_type not in ARITHMETIC:
            return None
        elif makers[current] not in needed:
            needed.append(makers[current])
            wanted += [part for part in makers[current].input if part]
    nodes = [node for node in graph.node if node in needed]
    output = onnx.ValueInfoProto(name=name)
    small = onnx.helper.make_graph(nodes, "constant", [], [output], list(taken.values()))
    (found,) = ReferenceEvaluator(onnx.helper.make_model(small)).run([name], {})
    return np.asarray(found) if np.size(found) == 1 else None
