"""Small graphs for servers, as entries of a model repository."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.serving.repository.pbtxt import write
from nanocv_cli.serving.repository.python_backend import SHIPPED_MODEL_PY

ROW = 4
TABLE = np.arange(20, dtype=np.float32).reshape(10, 2)
SLOW_SIDE = 1200
FOR_EVER = 1 << 62  # turns of a loop


def doubling() -> onnx.ModelProto:
    """x uint8 [N,4] -> y float [N,4], twice the values; every row answers for itself alone."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["f", "f"], ["y"]),
    ]
    return _model(nodes, [_info("x", TensorProto.UINT8, ROW)], [_info("y", TensorProto.FLOAT, ROW)], [])


def looking_up() -> onnx.ModelProto:
    """index int64 [N,1] -> row float [N,1,2] of a table of 10; any other index fails, and with it its whole batch."""
    nodes = [helper.make_node("Gather", ["table", "index"], ["row"])]
    table = numpy_helper.from_array(TABLE, "table")
    return _model(nodes, [_info("index", TensorProto.INT64, 1)], [_info("row", TensorProto.FLOAT, 1, 2)], [table])


def adding() -> onnx.ModelProto:
    """a float [N,M], b float [N,M] -> total float [N,M], M any number."""
    nodes = [helper.make_node("Add", ["a", "b"], ["total"])]
    inputs = [_info("a", TensorProto.FLOAT, "M"), _info("b", TensorProto.FLOAT, "M")]
    return _model(nodes, inputs, [_info("total", TensorProto.FLOAT, "M")], [])


def slow() -> onnx.ModelProto:
    """x uint8 [N,4] -> y float [N,4] after some hundred million operations on the way."""
    weight = numpy_helper.from_array(np.full((SLOW_SIDE, SLOW_SIDE), 1 / SLOW_SIDE, np.float32), "weight")
    widen = numpy_helper.from_array(np.ones((ROW, SLOW_SIDE), np.float32), "widen")
    narrow = numpy_helper.from_array(np.full((SLOW_SIDE, ROW), 1 / SLOW_SIDE, np.float32), "narrow")
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["f", "widen"], ["h0"]),
    ]
    nodes += [helper.make_node("MatMul", [f"h{i}", "weight"], [f"h{i + 1}"]) for i in range(24)]
    nodes += [helper.make_node("MatMul", ["h24", "narrow"], ["y"])]
    inputs, outputs = [_info("x", TensorProto.UINT8, ROW)], [_info("y", TensorProto.FLOAT, ROW)]
    return _model(nodes, inputs, outputs, [weight, widen, narrow])


def turning() -> onnx.ModelProto:
    """turns int64 [N,1] -> y float [N,1], the largest of them, counted in a loop of as many turns."""
    true, one = numpy_helper.from_array(np.array(True), "true"), numpy_helper.from_array(np.float32(1), "one")
    zero = numpy_helper.from_array(np.zeros(1, np.int64), "zero")
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_on"], ["on"]), helper.make_node("Add", ["sum", "one"], ["more"])],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("more", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", ["turns"], ["most"], keepdims=0),
        helper.make_node("Mul", ["turns", "zero"], ["nothing"]),
        helper.make_node("Cast", ["nothing"], ["start"], to=TensorProto.FLOAT),
        helper.make_node("Loop", ["most", "true", "start"], ["y"], body=body),
    ]
    inputs, outputs = [_info("turns", TensorProto.INT64, 1)], [_info("y", TensorProto.FLOAT, 1)]
    return _model(nodes, inputs, outputs, [true, one, zero])


GRAPHS = {"doubling": doubling, "looking_up": looking_up, "adding": adding, "slow": slow, "turning": turning}
TENSORS: dict[str, tuple[dict[str, tuple[Any, list[int]]], dict[str, tuple[Any, list[int]]]]] = {
    "doubling": ({"x": (pb.TYPE_UINT8, [ROW])}, {"y": (pb.TYPE_FP32, [ROW])}),
    "looking_up": ({"index": (pb.TYPE_INT64, [1])}, {"row": (pb.TYPE_FP32, [1, 2])}),
    "adding": ({"a": (pb.TYPE_FP32, [-1]), "b": (pb.TYPE_FP32, [-1])}, {"total": (pb.TYPE_FP32, [-1])}),
    "slow": ({"x": (pb.TYPE_UINT8, [ROW])}, {"y": (pb.TYPE_FP32, [ROW])}),
    "turning": ({"turns": (pb.TYPE_INT64, [1])}, {"y": (pb.TYPE_FP32, [1])}),
}


def entry_config(name: str, graph: str, *, max_batch: int = 4, backend: str = "python") -> pb.ModelConfig:
    """A config for one of `GRAPHS` with dynamic batching and nothing else said."""
    config = pb.ModelConfig(name=name, backend=backend, max_batch_size=max_batch)
    for tensor, (kind, dims) in TENSORS[graph][0].items():
        config.input.add(name=tensor, data_type=kind, dims=dims)
    for tensor, (kind, dims) in TENSORS[graph][1].items():
        config.output.add(name=tensor, data_type=kind, dims=dims)
    if max_batch:
        config.dynamic_batching.SetInParent()
    config.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU, count=1)
    return config


def write_model(repository: Path, config: pb.ModelConfig, graph: str, version: int = 1) -> Path:
    """Writes an entry that both engines can serve; returns its folder."""
    entry = repository / config.name
    (entry / str(version)).mkdir(parents=True, exist_ok=True)
    (entry / str(version) / "model.onnx").write_bytes(GRAPHS[graph]().SerializeToString())
    if config.backend == "python":
        shutil.copy(SHIPPED_MODEL_PY, entry / str(version) / "model.py")
    for output in config.output:
        if output.label_filename:
            (entry / output.label_filename).write_text("north\neast\nsouth\nwest\n", encoding="utf-8")
    write(entry / "config.pbtxt", config)
    return entry


def _info(name: str, kind: int, *sizes: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["N", *sizes])


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto],
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "test", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
