"""Weights rounded to bf16's eight bits, and kept in fp32: what a graph in bf16 would lose, on any processor."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from nanocv_cli.exporting.precision import Feed


def round_weights(model: onnx.ModelProto, calibration: Sequence[Feed], kept: Sequence[str]) -> onnx.ModelProto:
    """See `precision.Converter`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    spared = {name for node in copy.graph.node if node.name in kept for name in node.input}
    for tensor in copy.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.name not in spared:
            bits = numpy_helper.to_array(tensor).view(np.uint32) + 0x8000 & 0xFFFF0000
            tensor.CopyFrom(numpy_helper.from_array(bits.astype(np.uint32).view(np.float32), tensor.name))
    return copy
