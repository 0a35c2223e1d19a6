"""Values in an ONNX graph that follow from its constants alone, such as how often a loop runs."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

MOST_NODES = 64


def constant_value(graph: onnx.GraphProto, name: str) -> NDArray[np.generic] | None:
    """The value of a tensor that depends on initializers only, inputs with a default among them.

    Args:
        graph: that the tensor belongs to.
        name: of the tensor.

    Returns:
        the value; None where it depends on an input, or on more than a few nodes.
    """
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    wanted = [name]
    needed: list[onnx.NodeProto] = []
    taken: dict[str, onnx.TensorProto] = {}
    while wanted:
        current = wanted.pop()
        if current in initializers:
            taken[current] = initializers[current]
        elif current not in makers or len(needed) == MOST_NODES:
            return None
        elif makers[current] not in needed:
            needed.append(makers[current])
            wanted += [part for part in makers[current].input if part]
    nodes = [node for node in graph.node if node in needed]
    output = onnx.ValueInfoProto(name=name)
    small = onnx.helper.make_graph(nodes, "constant", [], [output], list(taken.values()))
    (found,) = ReferenceEvaluator(onnx.helper.make_model(small)).run([name], {})
    return np.asarray(found)
