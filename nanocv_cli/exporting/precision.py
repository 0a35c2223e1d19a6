"""The precisions beside fp32 that a graph can be exported in, and how each is made of a graph in fp32."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any, Protocol, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from nanocv_cli.engine.runtimes import FP32
from nanocv_cli.errors import ExportError, RequestError
from nanocv_cli.exporting.channel_norm import NAMED, with_channel_norms
from nanocv_cli.exporting.loop_body import Feed, LoopBody
from nanocv_cli.models.onnx_exporter import all_graphs, all_nodes, quiet
from nanocv_cli.untrusted import first_line

# What processors call their instructions for it: Intel's and AMD's, then ARM's.
INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
FED = 128  # evaluations of a network inside of a loop that ranges are chosen by


class Converter(Protocol):
    """Makes a graph of less precision; inputs and outputs keep their names, types and shapes.

    Args:
        model: a graph in fp32; it is left as it is.
        calibration: what to choose ranges by, from the training split.
        kept: names of nodes that stay in fp32.

    Raises:
        ExportError: it cannot be made.
    """

    def __call__(self, model: onnx.ModelProto, calibration: Sequence[Feed], kept: Sequence[str]) -> onnx.ModelProto: ...


@dataclass(frozen=True)
class ExportPrecision:
    """A row of the table.

    Attributes:
        converter: dotted path of its `Converter`.
        package: what it imports.
        extra: of nanocv that brings the package; None: nanocv itself does.
        fast_with: a processor that computes in it has one of these flags; empty: none gains by it.
    """

    converter: str
    package: str
    extra: str | None = None
    fast_with: frozenset[str] = frozenset()


PRECISIONS = {
    "fp16": ExportPrecision("nanocv_cli.exporting.precision:to_half", "onnxruntime"),
    "bf16": ExportPrecision("nanocv_cli.exporting.precision:to_brain", "onnx", fast_with=BF16_FLAGS),
    "int8": ExportPrecision("nanocv_cli.exporting.precision:quantise", "nncf", "int8", fast_with=INT8_FLAGS),
}


def find_converter(precision: str) -> Converter:
    """What makes graphs of a precision.

    Raises:
        RequestError: there is none, or its package is not installed.
    """
    if precision not in PRECISIONS:
        raise RequestError(f"unknown precision {precision!r}", f"use {', '.join((FP32, *PRECISIONS))}")
    row = PRECISIONS[precision]
    if find_spec(row.package) is None:
        raise RequestError(f"{row.package} is not installed", f"pip install 'nanocv[{row.extra}]'")
    return cast(Converter, resolve_name(row.converter))


def slow_here(precision: str, flags: Collection[str]) -> str:
    """Why a processor with these flags is not faster in a precision, in one line; empty where it is, or tells none."""
    wanted = PRECISIONS[precision].fast_with
    if not wanted or not flags or wanted & set(flags):
        return ""
    return f"this processor has none of {', '.join(sorted(wanted))}: {precision} saves memory here, but hardly time"


def layers_of(model: onnx.ModelProto) -> list[str]:
    """Names of the layers that gain by less precision, also of those inside of a loop."""
    return [node.name for node in all_nodes(model.graph) if node.op_type in LAYERS and node.name]


def to_half(model: onnx.ModelProto, calibration: Sequence[Feed], kept: Sequence[str]) -> onnx.ModelProto:
    """A `Converter`: weights and arithmetic in fp16, half the file. Nothing is measured for it."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a weight beyond fp16's range is cut off there, which the metric shows
            return cast(onnx.ModelProto, convert_float_to_float16(copy, keep_io_types=True, node_block_list=list(kept)))
    except Exception as error:  # the converter has no exception tree of its own
        raise ExportError(f"it cannot be made fp16: {first_line(error)}") from error


def to_brain(model: onnx.ModelProto, calibration: Sequence[Feed], kept: Sequence[str]) -> onnx.ModelProto:
    """A `Converter`: the layers' weights in bf16, half the file. Nothing is measured for it.

    Each is cast to fp32 where it is read, once, when a runtime loads the graph: ONNX Runtime has no convolution in bf16
    for processors. OpenVINO computes such a graph in bf16 where the processor does.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for graph in all_graphs(copy.graph):
        layers = [node for node in graph.node if node.op_type in LAYERS and node.name not in kept]
        read = {name for node in layers for name in node.input[1:2]}
        nodes = []
        for tensor in graph.initializer:
            if tensor.name not in read or tensor.data_type != onnx.TensorProto.FLOAT:
                continue
            name, wide = f"{tensor.name}_bf16", numpy_helper.to_array(tensor)
            nodes.append(onnx.helper.make_node("Cast", [name], [tensor.name], to=onnx.TensorProto.FLOAT))
            rounded = _in_bf16(wide)
            tensor.CopyFrom(onnx.helper.make_tensor(name, onnx.TensorProto.BFLOAT16, wide.shape, rounded, raw=True))
        nodes += graph.node
        del graph.node[:]
        graph.node.extend(nodes)
    return copy


def _in_bf16(array: NDArray[np.float32]) -> bytes:
    """Rounded to the nearest number of eight bits, of two the even one."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return rounded.astype("<u2").tobytes()


def quantise(model: onnx.ModelProto, calibration: Sequence[Feed], kept: Sequence[str]) -> onnx.ModelProto:
    """A `Converter`: nncf's post-training quantisation to int8.

    Weights have a scale for each output channel. What is no convolution or matrix product, as post-processing is,
    stays in fp32. A network inside of a loop is quantised by what it is fed in samplings.
    """
    if any(node.op_type == "QuantizeLinear" for node in all_nodes(model.graph)):
        raise ExportError("it is in int8 already", "export it without --precision")
    body = LoopBody.of(with_channel_norms(model))
    if body is None:
        return _quantised(model, calibration, kept)
    graph = body.graph
    # What is around the layers carries the image that is being made: quantised, it would be lost step by step.
    others = sorted({node.op_type for node in graph.graph.node} - LAYERS)
    names = [*kept, *_left_alone(graph.graph)]
    return body.put_back(_quantised(graph, body.feeds(calibration, FED), names, others))


def _left_alone(graph: onnx.GraphProto) -> list[str]:
    """Layers of a sampler's network that stay in fp32: those that cost little, and stray most from step to step.

    They are its first and its last convolution, which read and write the image itself, the products of vectors, by
    which time and class enter, and what group normalisation consists of. Of nanoflow's images that halves by how much
    they differ, and the products are faster so.
    """
    convolutions = [node.name for node in graph.node if node.op_type == "Conv" and not node.name.startswith(NAMED)]
    products = [node.name for node in graph.node if node.op_type == "Gemm"]
    norms = [node.name for node in graph.node if node.op_type in LAYERS and node.name.startswith(NAMED)]
    return [*convolutions[:1], *convolutions[-1:], *products, *norms]


def _quantised(
    model: onnx.ModelProto, calibration: Sequence[Feed], names: Sequence[str], types: Sequence[str] = ()
) -> onnx.ModelProto:
    """The graph in int8, but for nodes of these names and types."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        with _quiet_nncf() as nncf:
            quantised: onnx.ModelProto = nncf.quantize(
                copy,
                nncf.Dataset(calibration),
                subset_size=len(calibration),
                preset=nncf.QuantizationPreset.MIXED,  # symmetric weights, asymmetric activations
                ignored_scope=nncf.IgnoredScope(names=list(names), types=list(types)),
            )
    except Exception as error:  # nncf's errors share no base class
        raise ExportError(f"it cannot be quantised: {first_line(error)}") from error
    if not any(node.op_type == "QuantizeLinear" for node in quantised.graph.node):
        raise ExportError("no layer of it can be quantised", "--precision fp16")
    return quantised


@contextlib.contextmanager
def _quiet_nncf() -> Iterator[Any]:
    """The package nncf, whose progress bars and logs stay off a command's output, and its telemetry off the network."""
    cast(dict[str, Any], sys.modules).setdefault("openvino_telemetry", None)
    logging.disable(logging.WARNING)  # torch's C++ extensions, which it imports, tell of CUDA
    try:
        with quiet():
            import nncf

            nncf.set_log_level(logging.ERROR)
            yield nncf
    finally:
        logging.disable(logging.NOTSET)
