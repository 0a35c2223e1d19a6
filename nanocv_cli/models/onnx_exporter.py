"""A model as one self-contained ONNX graph: uint8 images in, finished predictions out, the card in its metadata."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from torch import nn

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.errors import ExportError
from nanocv_cli.untrusted import first_line

OPSET = 20
SINGLE_OPSET = 18  # the newest that torch's older exporter writes
INPUT_NAME = "images"
STACK_TRACE = "pkg.torch.onnx.stack_trace"
LARGEST_PROTOBUF = 2**31 - 1


def build_graph(
    export_model: nn.Module, output_names: tuple[str, ...], card: ModelCard, any_size: bool = False
) -> onnx.ModelProto:
    """Exports a export_model module through torch's dynamo exporter and checks the graph.

    Args:
        export_model: uint8 [N,S,S,3] to a tuple of outputs, in evaluation mode on the CPU.
        output_names: names of those outputs.
        card: goes into the graph's metadata.
        any_size: whether height and width shall be symbolic too.

    Returns:
        a checked model whose batch dimension is symbolic in every input and output, weights inside.

    Raises:
        ExportError: torch cannot express the module as ONNX, onnx's checker objects, or the batch became fixed.
    """
    # Two images: a batch of one would let the exporter specialise on it.
    example = torch.zeros((2, card.input_size, card.input_size, 3), dtype=torch.uint8)
    names = ("batch", "height", "width") if any_size else ("batch",)
    try:
        with quiet():
            program = torch.onnx.export(
                export_model.eval(),
                (example,),
                dynamo=True,
                input_names=[INPUT_NAME],
                output_names=list(output_names),
                dynamic_shapes={INPUT_NAME: {axis: torch.export.Dim(name) for axis, name in enumerate(names)}},
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter has no exception tree of its own
        raise ExportError(
            f"{card.name} cannot be exported with a dynamic {', '.join(names)}: {first_line(error)}",
            "try another architecture",
        ) from error
    if program is None:
        raise ExportError(f"{card.name}: torch's exporter returned nothing", "try another torch version")
    model = without_source(program.model_proto)
    onnx.helper.set_model_props(model, card.to_metadata())
    model.producer_name, model.producer_version = "nanocv", card.version
    check_graph(model, card.name)
    return model


def without_source(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, whose nodes no longer tell by which lines of which files of this machine torch came to them."""
    for node in all_nodes(model.graph):
        kept = [entry for entry in node.metadata_props if entry.key != STACK_TRACE]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    return model


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph, and those inside of its nodes, as a loop's body."""
    yield graph
    for node in graph.node:
        yield from inner_graphs(node)


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs inside of a node, and those inside of them."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield from all_graphs(attribute.g)


def names_read(node: onnx.NodeProto) -> set[str]:
    """Names of the values that a node needs, also those that the graphs inside of it take from around them."""
    read = set(node.input)
    for graph in inner_graphs(node):
        read.update(name for inner in graph.node for name in inner.input)
        read.update(value.name for value in graph.output)
    return read - {""}  # which stands for an input that is left out


def leave_out_unread(graph: onnx.GraphProto) -> None:
    """Takes the nodes and stored tensors out of a graph that nothing in it reads."""
    read = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):
        if read.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            read |= names_read(node)
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of all of them."""
    for one in all_graphs(graph):
        yield from one.node


def build_single_graph(export_model: nn.Module, output_names: tuple[str, ...], card: ModelCard) -> onnx.ModelProto:
    """Exports a module that torch cannot export with a dynamic batch as a graph that reads one image at a time.

    Lists of boxes of any length need torch's older exporter, which follows one example.

    Raises:
        ExportError: torch cannot express the module as ONNX, or onnx's checker objects.
    """
    example = torch.zeros((1, card.input_size, card.input_size, 3), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.onnx"
        try:
            with quiet():
                torch.onnx.export(
                    export_model.eval(),
                    (example,),
                    file,
                    dynamo=False,
                    input_names=[INPUT_NAME],
                    output_names=list(output_names),
                    opset_version=SINGLE_OPSET,
                )
        except Exception as error:  # the exporter has no exception tree of its own
            raise ExportError(
                f"{card.name} cannot be exported: {first_line(error)}", "try another architecture"
            ) from error
        model = onnx.load(str(file))
    onnx.helper.set_model_props(model, card.to_metadata())
    model.producer_name, model.producer_version = "nanocv", card.version
    check_graph(model, card.name, single=True)
    return model


def check_graph(model: onnx.ModelProto, name: str, single: bool = False) -> None:
    """Runs onnx's full checker, and makes sure that the batch is symbolic (if not `single`) and the weights are inside.

    Raises:
        ExportError: any of these does not hold.
    """
    if model.ByteSize() > LARGEST_PROTOBUF:
        raise ExportError(f"{name} is over 2 GB, the most that one ONNX file can hold", "choose a smaller model")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{name}: onnx's checker refuses the exported graph: {first_line(error)}") from error
    with_default = {tensor.name for tensor in model.graph.initializer}
    required = [value for value in model.graph.input if value.name not in with_default]
    for value in () if single else (*required, *model.graph.output):
        shape = value.type.tensor_type.shape.dim
        if not shape or not shape[0].dim_param:
            size = shape[0].dim_value if shape else "no"
            raise ExportError(
                f"{name}: the exported graph has a fixed batch ({value.name} has {size} images)",
                "the architecture mixes images of a batch or fixes its size; try another one",
            )
    outside = [t.name for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        raise ExportError(f"{name}: the exporter left {len(outside)} tensors outside the file ({outside[0]}, ...)")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter talks on stdout, in warnings and in logs; a command's stdout belongs to its result."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
