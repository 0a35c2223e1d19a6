"""Group normalisation as one scale and one shift for each channel, which OpenVINO runs much faster.

Torch's exporter writes it (Wu and He, arXiv:1803.08494) as a reshaping to groups, an `InstanceNormalization`, a
reshaping back, and the layer's own scale and shift. OpenVINO lays the images out anew for every reshaping and passes
over them once for each of these. Here the two moments of a group are means of those of its channels, all that follows
has a number for each channel, and the images are read twice and written once: nanoflow takes two thirds of the time.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

from nanocv_cli.exporting.loop_body import inside_loop
from nanocv_cli.models.onnx_exporter import leave_out_unread, names_read

NAMED = "channel_norm"  # the names of what is added begin with this
CHAIN = ("Reshape", "InstanceNormalization", "Reshape", "Mul", "Add")


def with_channel_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its group normalisations, also those inside of its loop, written by channel.

    What has another form than the exporter's, or images of a size that is not known, stays as it is.
    """
    return inside_loop(model, _rewritten)


def _rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    found = _found(shape_inference.infer_shapes(model, data_prop=True).graph)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if not found:
        return copy
    graph = copy.graph
    begins = {norm.last: number for number, norm in enumerate(found)}
    gone = {name for norm in found for name in norm.replaced}
    nodes, constants = [], dict[str, NDArray[Any]]()
    for node in graph.node:
        if node.output[0] in begins:
            number = begins[node.output[0]]
            nodes += _by_channel(found[number], f"{NAMED}_{number}", constants)
        elif node.output[0] not in gone:
            nodes.append(node)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    leave_out_unread(graph)
    return copy


@dataclass(frozen=True)
class _GroupNorm:
    """One in the exporter's form.

    Attributes:
        images: name of what is normalised, [N,C,H,W].
        channels, places: C, and H times W.
        groups: that the channels are in.
        epsilon: added to the variance.
        scale, shift: of each channel, float32 [1,C,1,1].
        replaced: names of what its nodes answer.
        last: the last of them, the answer.
    """

    images: str
    channels: int
    places: int
    groups: int
    epsilon: float
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]
    replaced: tuple[str, ...]
    last: str


def _found(graph: onnx.GraphProto) -> list[_GroupNorm]:
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in names_read(node):
            users.setdefault(name, []).append(node)
    answers = {value.name for value in graph.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input)
    }
    found = []
    for node in graph.node:
        chain = [node]
        while chain[-1].op_type == CHAIN[len(chain) - 1] and len(chain) < len(CHAIN):
            after = users.get(chain[-1].output[0], [])
            if len(after) != 1 or chain[-1].output[0] in answers:
                break
            chain += after
        if tuple(link.op_type for link in chain) != CHAIN:
            continue
        shape = shapes.get(node.input[0], [])
        if len(shape) != 4 or not all(shape[1:]):
            continue
        groups, ones, none, scale, shift = (
            numpy_helper.to_array(constants[name]) if name in constants else None
            for name in (node.input[1], *chain[1].input[1:3], chain[3].input[1], chain[4].input[1])
        )
        if (
            ones is None or none is None or scale is None or shift is None
            or not (ones == 1.0).all() or none.any()
            or groups is None or groups.tolist() != [0, len(ones), -1]
            or any(tensor.shape[-3:] != (shape[1], 1, 1) or tensor.size != shape[1] for tensor in (scale, shift))
        ):  # fmt: skip
            continue
        found.append(
            _GroupNorm(
                images=node.input[0],
                channels=shape[1],
                places=shape[2] * shape[3],
                groups=len(ones),
                epsilon=next((entry.f for entry in chain[1].attribute if entry.name == "epsilon"), 1e-5),
                scale=scale.reshape(1, -1, 1, 1),
                shift=shift.reshape(1, -1, 1, 1),
                replaced=tuple(link.output[0] for link in chain),
                last=chain[-1].output[0],
            )
        )
    return found


def _by_channel(norm: _GroupNorm, prefix: str, constants: dict[str, NDArray[Any]]) -> list[onnx.NodeProto]:
    """Its nodes; constants are entered by name.

    Means over a group are a 1x1 convolution: OpenVINO then keeps the layout that convolutions have.
    """

    def constant(name: str, value: NDArray[Any]) -> str:
        constants[name] = value
        return name

    nodes: list[onnx.NodeProto] = []

    def node(kind: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        name = to or f"{prefix}_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], name=f"{prefix}_node_{len(nodes)}", **attributes))
        return name

    size = norm.channels // norm.groups
    same_group = np.kron(np.eye(norm.groups), np.full((size, size), 1.0 / size))[:, :, None, None]
    axes = constant(f"{NAMED}_axes", np.array([2, 3]))
    means = constant(f"{NAMED}_{norm.channels}_{norm.groups}", same_group.astype(np.float32))
    means_of_sums = constant(
        f"{NAMED}_{norm.channels}_{norm.groups}_{norm.places}", (same_group / norm.places).astype(np.float32)
    )
    mean = node("Conv", node("ReduceMean", norm.images, axes, keepdims=1), means, kernel_shape=[1, 1])
    length = node("ReduceL2", norm.images, axes, keepdims=1)
    square = node("Conv", node("Mul", length, length), means_of_sums, kernel_shape=[1, 1])
    # Rounding may take it below nothing.
    variance = node("Relu", node("Sub", square, node("Mul", mean, mean)))
    epsilon = constant(f"{prefix}_epsilon", np.array(norm.epsilon, np.float32))
    deviation = node("Sqrt", node("Add", variance, epsilon))
    scale = node("Div", constant(f"{prefix}_scale", norm.scale), deviation)
    shift = node("Sub", constant(f"{prefix}_shift", norm.shift), node("Mul", mean, scale))
    node("Add", node("Mul", norm.images, scale), shift, to=norm.last)
    return nodes
