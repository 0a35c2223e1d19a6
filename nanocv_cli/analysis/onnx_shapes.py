"""Shapes of everything in an ONNX graph for one image."""

import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnx.shape_inference
import onnxruntime
from onnx import numpy_helper

from nanocv_cli.engine.sessions import new_session, session_options
from nanocv_cli.errors import ModelError
from nanocv_cli.untrusted import first_line

# Constants up to this many values may say what shape something has.
LARGEST_CONSTANT = 64
FOLDINGS = 3
MOST_VALUES = 1 << 50  # of one tensor: far beyond any memory


@dataclass(frozen=True)
class Tensor:
    """One value of a graph.

    Attributes:
        name: in the graph.
        shape: None where it depends on values.
        data_type: ONNX's number for the element type; 0 if unknown.
        value: of a whole number that the graph holds as a constant.
    """

    name: str
    shape: tuple[int, ...] | None
    data_type: int
    value: int | None = None

    @property
    def count(self) -> int:
        """Values in it; none if the shape is unknown."""
        return math.prod(self.shape) if self.shape is not None else 0


def shaped(
    proto: onnx.ModelProto, path: Path, input_size: int | None, shapes: dict[str, tuple[int, ...]]
) -> tuple[onnx.ModelProto, frozenset[str]]:
    """The graph with its functions inlined, its inputs of one size, and the shapes of all values worked out.

    Returns:
        the graph, in which large weights have become inputs without values, and the names of those.

    Raises:
        ModelError: an input leaves a size open that was not given, or the shapes contradict one another.
    """
    weights = _weights_to_inputs(proto.graph)
    proto = onnx.inliner.inline_local_functions(proto)
    inputs = images_in(proto.graph, weights)
    if unknown := shapes.keys() - {value.name for value in inputs}:
        names = ", ".join(value.name for value in inputs)
        raise ModelError(f"{path} has no input {min(unknown)!r}", f"its inputs are {names}")
    for value in inputs:
        _fix(value, path, input_size, shapes.get(value.name))
    try:
        proto = _inferred(proto)
        for _ in range(FOLDINGS):
            if not has_open_shapes(proto.graph):
                break
            proto = _inferred(_folded(proto))
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(
            f"{path}: its shapes do not fit: {first_line(error)}", "another --input-size or --shape"
        ) from error
    return proto, weights


def images_in(graph: onnx.GraphProto, weights: frozenset[str]) -> list[onnx.ValueInfoProto]:
    """The inputs that are neither constants nor weights."""
    given = {tensor.name for tensor in graph.initializer} | weights
    return [value for value in graph.input if value.name not in given]


def has_open_shapes(graph: onnx.GraphProto) -> bool:
    """Whether the shape of a node's output is unknown."""
    found = tensors_of(graph)
    return any(name and (name not in found or found[name].shape is None) for node in graph.node for name in node.output)


def _weights_to_inputs(graph: onnx.GraphProto) -> frozenset[str]:
    """Takes the values out of large constants: shapes do not depend on them, and they make every step slow."""
    large = [tensor for tensor in graph.initializer if math.prod(tensor.dims) > LARGEST_CONSTANT]
    kept = [tensor for tensor in graph.initializer if math.prod(tensor.dims) <= LARGEST_CONSTANT]
    already = {value.name for value in graph.input}
    for tensor in large:
        if tensor.name not in already:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return frozenset(tensor.name for tensor in large)


def _inferred(proto: onnx.ModelProto) -> onnx.ModelProto:
    # Sizes that an exporter wrote down for an open batch would contradict those of one image.
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    _carry_into_loops(proto.graph)
    return onnx.shape_inference.infer_shapes(proto, data_prop=True)


def _carry_into_loops(graph: onnx.GraphProto) -> None:
    """Gives what a loop carries on the shape it starts with: ONNX's inference allows for every turn to change it."""
    found = tensors_of(graph)
    for node in graph.node:
        if node.op_type != "Loop":
            continue
        body = next(attribute.g for attribute in node.attribute if attribute.name == "body")
        for start, inside in zip(node.input[2:], body.input[2:], strict=True):
            known = found.get(start)
            if known and known.shape is not None:
                inside.type.CopyFrom(onnx.helper.make_tensor_type_proto(known.data_type, known.shape))


def _folded(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Lets ONNX Runtime compute whatever depends on shapes alone; it sees no weights, so it fuses none.

    Where it cannot load the graph, the graph stays as it is.
    """
    options = session_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(target)
        try:
            new_session(proto.SerializeToString(), options)
            return onnx.load(str(target))
        except Exception:  # ONNX Runtime's errors share no base class
            return proto


def tensors_of(graph: onnx.GraphProto) -> dict[str, Tensor]:
    """All values of a graph by name."""
    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        sizes = [dimension.dim_value if dimension.HasField("dim_value") else None for dimension in kind.shape.dim]
        is_known = kind.HasField("shape") and all(size is not None for size in sizes)
        shape = tuple(size for size in sizes if size is not None) if is_known else None
        if shape is not None and not 0 <= math.prod(shape) <= MOST_VALUES:
            raise ValueError(f"{value.name} has the shape {list(shape)}")
        found[value.name] = Tensor(value.name, shape, kind.elem_type)
    for tensor in graph.initializer:
        found[tensor.name] = _constant(tensor.name, tensor)
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            found[node.output[0]] = _constant(node.output[0], node.attribute[0].t)
    return found


def element_type(value: onnx.ValueInfoProto) -> str:
    """An input's element type as numpy names it."""
    return str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))


def _constant(name: str, tensor: onnx.TensorProto) -> Tensor:
    found = Tensor(name, tuple(tensor.dims), tensor.data_type)
    if found.count == 1 and not tensor.external_data and tensor.data_type in (6, 7):
        return replace(found, value=int(np.asarray(numpy_helper.to_array(tensor)).reshape(())))
    return found


def _fix(value: onnx.ValueInfoProto, path: Path, input_size: int | None, wanted: tuple[int, ...] | None) -> None:
    dimensions = value.type.tensor_type.shape.dim
    if wanted is not None and len(wanted) != len(dimensions):
        raise ModelError(
            f"{path}: {value.name} has {len(dimensions)} sizes, not {len(wanted)}", f"--shape {value.name}:1,..."
        )
    for place, dimension in enumerate(dimensions):
        if wanted is not None:
            dimension.dim_value = wanted[place]
        elif dimension.HasField("dim_value") and dimension.dim_value > 0:
            # A batch that the graph fixes is counted as it stands.
            continue
        elif place == 0:
            dimension.dim_value = 1
        elif input_size is not None and len(dimensions) == 4:
            dimension.dim_value = input_size
        else:
            raise ModelError(
                f"{path} leaves size {place} of its input {value.name} open",
                "--input-size 224, or --shape " + value.name + ":1,3,224,224",
            )
