"""Weights rounded to TF32's eleven bits, and kept in fp32: what tensor cores would make of them, on any processor."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from nanocv_cli.exporting.loop_body import Feed


def round_weights(model: onnx.ModelProto, calibration: Sequence[Feed], kept: Sequence[str]) -> onnx.ModelProto:
    """See `precision.Converter`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    spared = {name for node in copy.graph.node if node.name in kept for name in node.input}
    for tensor in copy.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.name not in spared:
            bits = numpy_helper.to_array(tensor).view(np.uint32) + 0x1000 & 0xFFFFE000
            tensor.CopyFrom(numpy_helper.from_array(bits.astype(np.uint32).view(np.float32), tensor.name))
    return copy
