"""A graph with a loop, as samplers have, small enough to be made by hand."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS, SIDE, GROUPS, TRIPS = 8, 6, 2, 5
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def norm_nodes(images: str, answer: str, groups: int = GROUPS) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Group normalisation as torch's exporter writes it, and its constants."""
    random = np.random.default_rng(1)
    scale, shift = (random.normal(1, 0.3, (CHANNELS, 1, 1)).astype(np.float32) for _ in range(2))
    values: dict[str, Any] = {
        "grouped": np.array([0, groups, -1]), "ones": np.ones(groups, np.float32), "none": np.zeros(groups, np.float32),
        "scale": scale, "shift": shift,
    }  # fmt: skip
    nodes = [
        helper.make_node("Reshape", [images, "grouped"], ["in_groups"]),
        helper.make_node("InstanceNormalization", ["in_groups", "ones", "none"], ["normal"], epsilon=1e-3),
        helper.make_node("Shape", [images], ["shape"]),
        helper.make_node("Reshape", ["normal", "shape"], ["normal_images"]),
        helper.make_node("Mul", ["normal_images", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], [answer]),
    ]
    return nodes, [numpy_helper.from_array(value, name) for name, value in values.items()]


def loop_graph() -> onnx.ModelProto:
    """`noise` float32 [N,8,6,6] and `strength` float32 [1] to `image`: five steps of three normalised convolutions."""
    random = np.random.default_rng(0)
    weights = random.normal(0, 0.2, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
    norm, constants = norm_nodes("state", "normalised")
    images: list[Any] = ["batch", CHANNELS, SIDE, SIDE]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes_on"]),
            *norm,
            helper.make_node("Conv", ["normalised", "weights"], ["read"], name="first", pads=[1, 1, 1, 1]),
            helper.make_node("Conv", ["read", "weights"], ["known"], name="conv", pads=[1, 1, 1, 1]),
            helper.make_node("Conv", ["known", "weights"], ["slope"], name="last", pads=[1, 1, 1, 1]),
            helper.make_node("Mul", ["slope", "strength"], ["step"]),
            helper.make_node("Add", ["state", "step"], ["next_state"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("index", INT64, []),
            helper.make_tensor_value_info("going", BOOL, []),
            helper.make_tensor_value_info("state", FLOAT, images),
        ],
        [
            helper.make_tensor_value_info("goes_on", BOOL, []),
            helper.make_tensor_value_info("next_state", FLOAT, images),
        ],
        [*constants, numpy_helper.from_array(weights, "weights")],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["four", "one"], ["trips"]),
            helper.make_node("Loop", ["trips", "true", "noise"], ["image"], body=body),
        ],
        "whole",
        [helper.make_tensor_value_info("noise", FLOAT, images), helper.make_tensor_value_info("strength", FLOAT, [1])],
        [helper.make_tensor_value_info("image", FLOAT, images)],
        [
            numpy_helper.from_array(np.array(TRIPS - 1), "four"),
            numpy_helper.from_array(np.array(1), "one"),
            numpy_helper.from_array(np.array(True), "true"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def loop_feed(seed: int) -> dict[str, np.ndarray]:
    """What the graph takes, for one image."""
    noise = np.random.default_rng(seed).normal(size=(1, CHANNELS, SIDE, SIDE)).astype(np.float32)
    return {"noise": noise, "strength": np.array([0.1], np.float32)}
