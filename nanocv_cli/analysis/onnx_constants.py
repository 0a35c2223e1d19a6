"""Values in an ONNX graph that follow from its constants alone, such as how often a loop runs."""

import math

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

MOST_NODES = 64
# Arithmetic of single numbers, in which nothing can grow.
ARITHMETIC = {
    "Abs", "Add", "And", "Cast", "Ceil", "Constant", "Div", "Equal", "Floor", "Greater", "GreaterOrEqual", "Identity",
    "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Sub", "Where",
}  # fmt: skip


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
