"""A graph for each task, whose answers can be said beforehand."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nanocv_cli.config.loader import resolve_serve
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.serving.repository.entry import write_entry
from tests.engine.graphs import colour_card, write_graph
from tests.report.pages import HOSTILE

SIDE = 8
BOX = (0.25, 0.5, 0.75, 1.0)  # left, top, right and bottom as shares of the image
SCORE = 0.75
# Guidance beyond what requests may name, and no tenth of anything: a model may have it.
SAMPLING = {"model": {"sampling": {"steps": 3, "guidance": 20.5, "solver": "euler"}}}
Node = onnx.NodeProto


def write_repository(folder: Path) -> Path:
    """Entries `classifier`, `detector`, `segmenter` and `sampler`; the classifier's classes mean harm."""
    graphs = folder.parent / "graphs"
    classifier = colour_card(name="classifier", classes=HOSTILE, resize="stretch")
    made = [write_graph(graphs / "classifier.onnx", classifier)]
    for name, task, build in (
        ("detector", "detection", _detecting),
        ("segmenter", "segmentation", _segmenting),
        ("sampler", "generation", _sampling),
    ):
        classes = ("background", "light") if name == "segmenter" else ("dark", "light")
        config = SAMPLING if name == "sampler" else {}
        card = ModelCard(name, task, classes, SIDE, "stretch", "halves", config, "0", {"score": 0.5}, "test")
        model = build()
        helper.set_model_props(model, card.to_metadata())
        made.append(graphs / f"{name}.onnx")
        onnx.save(model, str(made[-1]))
    settings = resolve_serve(None, {"max_batch": 2, "instances": 1, "threads": 1}, ())
    for graph in made:
        write_entry(graph, folder, settings)
    return folder


def _detecting() -> onnx.ModelProto:
    """Always one box of class 1."""
    nodes = [
        helper.make_node("Shape", ["images"], ["count"], start=0, end=1),
        *(
            node
            for name in ("boxes", "scores", "labels")
            for node in (
                helper.make_node("Concat", ["count", f"{name}_tail"], [f"{name}_shape"], axis=0),
                helper.make_node("Expand", [f"{name}_one", f"{name}_shape"], [name]),
            )
        ),
    ]
    constants: dict[str, Any] = {
        "boxes_one": np.array([[BOX]], np.float32),
        "scores_one": np.array([[SCORE]], np.float32),
        "labels_one": np.array([[1]], np.int64),
        "boxes_tail": np.array([1, 4]),
        "scores_tail": np.array([1]),
        "labels_tail": np.array([1]),
    }
    outputs = [
        ("boxes", TensorProto.FLOAT, (1, 4)),
        ("scores", TensorProto.FLOAT, (1,)),
        ("labels", TensorProto.INT64, (1,)),
    ]
    return _model(nodes, [("images", TensorProto.UINT8, (SIDE, SIDE, 3))], outputs, constants)


def _segmenting() -> onnx.ModelProto:
    """Class 1 where a pixel is light."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "last"], ["means"], keepdims=0),
        helper.make_node("Greater", ["means", "middle"], ["light"]),
        helper.make_node("Cast", ["light"], ["mask"], to=TensorProto.UINT8),
        helper.make_node("Mul", ["means", "nothing"], ["zeros"]),
        helper.make_node("Add", ["zeros", "sure"], ["confidence"]),
    ]
    constants = {
        "last": np.array([3]),
        "middle": np.array(128.0, np.float32),
        "nothing": np.array(0.0, np.float32),
        "sure": np.array(0.9, np.float32),
    }
    outputs = [("mask", TensorProto.UINT8, (SIDE, SIDE)), ("confidence", TensorProto.FLOAT, (SIDE, SIDE))]
    return _model(nodes, [("images", TensorProto.UINT8, (SIDE, SIDE, 3))], outputs, constants)


def _sampling() -> onnx.ModelProto:
    """Images that are their noise: 2 grey levels times the guidance for each standard deviation, around 88, and 4 more
    for each step, and 28 for class 1.
    """
    nodes = [
        helper.make_node("Mul", ["guidance", "contrast"], ["factor"]),
        helper.make_node("Mul", ["noise", "factor"], ["levels"]),
        helper.make_node("Cast", ["steps"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["count", "rise"], ["risen"]),
        helper.make_node("Add", ["middle", "risen"], ["height"]),
        helper.make_node("Cast", ["label"], ["class"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["class", "step"], ["shift"]),
        helper.make_node("Reshape", ["shift", "column"], ["shifts"]),
        helper.make_node("Add", ["levels", "height"], ["moved"]),
        helper.make_node("Add", ["moved", "shifts"], ["shifted"]),
        helper.make_node("Clip", ["shifted", "least", "most"], ["clipped"]),
        helper.make_node("Round", ["clipped"], ["round"]),
        helper.make_node("Cast", ["round"], ["bytes"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["bytes"], ["image"], perm=[0, 2, 3, 1]),
    ]
    numbers = {"contrast": 2.0, "step": 28.0, "middle": 88.0, "rise": 4.0, "least": 0.0, "most": 255.0}
    constants = {name: np.array(value, np.float32) for name, value in numbers.items()}
    constants |= {"column": np.array([-1, 1, 1, 1]), "steps": np.array(3), "guidance": np.array(20.5, np.float32)}
    inputs = [("noise", TensorProto.FLOAT, (3, SIDE, SIDE)), ("label", TensorProto.INT64, ())]
    model = _model(nodes, inputs, [("image", TensorProto.UINT8, (SIDE, SIDE, 3))], constants)
    for name, kind in (("steps", TensorProto.INT64), ("guidance", TensorProto.FLOAT)):
        model.graph.input.append(helper.make_tensor_value_info(name, kind, ()))
    return model


Described = tuple[str, int, tuple[int, ...]]  # name, type and shape without rows


def _model(
    nodes: list[Node], inputs: list[Described], outputs: list[Described], constants: dict[str, Any]
) -> onnx.ModelProto:
    def told(described: Described) -> onnx.ValueInfoProto:
        name, kind, shape = described
        return helper.make_tensor_value_info(name, kind, ("batch", *shape))

    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "test", list(map(told, inputs)), list(map(told, outputs)), weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
