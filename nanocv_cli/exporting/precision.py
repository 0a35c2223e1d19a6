"""The precisions beside fp32 that a graph can be exported in, and how each is made of a graph in fp32."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any, Protocol, cast

import onnx
from numpy.typing import NDArray

from nanocv_cli.engine.runtimes import FP32
from nanocv_cli.errors import ExportError, RequestError
from nanocv_cli.models.onnx_exporter import quiet
from nanocv_cli.untrusted import first_line

# A graph's inputs by name, one row each.
Feed = dict[str, NDArray[Any]]


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
    """

    converter: str
    package: str
    extra: str | None = None


PRECISIONS = {
    "fp16": ExportPrecision("nanocv_cli.exporting.precision:to_half", "onnxruntime"),
    "int8": ExportPrecision("nanocv_cli.exporting.precision:quantise", "nncf", "int8"),
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


def quantise(model: onnx.ModelProto, calibration: Sequence[Feed], kept: Sequence[str]) -> onnx.ModelProto:
    """A `Converter`: nncf's post-training quantisation to int8.

    Weights have a scale for each output channel. What is no convolution or matrix product, as post-processing is,
    stays in fp32.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        with _quiet_nncf() as nncf:
            quantised: onnx.ModelProto = nncf.quantize(
                copy,
                nncf.Dataset(calibration),
                subset_size=len(calibration),
                preset=nncf.QuantizationPreset.MIXED,  # symmetric weights, asymmetric activations
                ignored_scope=nncf.IgnoredScope(names=list(kept)),
            )
    except Exception as error:  # nncf's errors share no base class
        raise ExportError(f"it cannot be quantised: {first_line(error)}") from error
    if not any(node.op_type == "QuantizeLinear" for node in quantised.graph.node):
        raise ExportError("no layer of it can be quantised: inside of a loop they stay as they are", "--precision fp16")
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
