"""Group normalisation by channel answers alike, wherever it stands; other forms stay as they are."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from nanocv_cli.exporting.channel_norm import with_channel_norms
from nanocv_cli.models.onnx_exporter import all_nodes
from tests.exporting.loops import CHANNELS, SIDE, loop_feed, loop_graph, norm_nodes

IMAGES: list[Any] = ["batch", CHANNELS, SIDE, SIDE]


def norm_graph(shape: list[Any], groups: int) -> onnx.ModelProto:
    nodes, constants = norm_nodes("images", "answer", groups)
    graph = helper.make_graph(
        nodes,
        "norm",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, shape)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def kinds(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in all_nodes(model.graph)}


def answer(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> np.ndarray:
    found: np.ndarray = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feed)[0]
    return found


@pytest.mark.parametrize("groups", [1, 2, CHANNELS])
def test_it_answers_like_the_exporters_form(groups: int) -> None:
    model = norm_graph(IMAGES, groups)
    rewritten = with_channel_norms(model)
    onnx.checker.check_model(rewritten, full_check=True)
    assert "InstanceNormalization" in kinds(model) and not {"InstanceNormalization", "Reshape"} & kinds(rewritten)
    images = np.random.default_rng(0).normal(3, 2, (4, CHANNELS, SIDE, SIDE)).astype(np.float32)
    np.testing.assert_allclose(answer(rewritten, {"images": images}), answer(model, {"images": images}), atol=1e-4)
    flat = np.full((1, CHANNELS, SIDE, SIDE), 7.3, np.float32)  # rounding must not make its variance negative
    np.testing.assert_allclose(answer(rewritten, {"images": flat}), answer(model, {"images": flat}), atol=1e-1)


def test_one_inside_of_a_loop_is_found() -> None:
    model = loop_graph()
    rewritten = with_channel_norms(model)
    assert "InstanceNormalization" not in kinds(rewritten)
    np.testing.assert_allclose(answer(rewritten, loop_feed(0)), answer(model, loop_feed(0)), atol=1e-5)


def test_images_of_any_size_stay_as_they_are() -> None:
    model = norm_graph(["batch", CHANNELS, "height", "width"], 2)
    assert with_channel_norms(model) == model


def relu_for_mul(model: onnx.ModelProto) -> None:
    scaled = next(node for node in model.graph.node if node.op_type == "Mul")
    scaled.CopyFrom(helper.make_node("Relu", scaled.input[:1], scaled.output))


def norm_with_a_scale_of_its_own(model: onnx.ModelProto) -> None:
    ones = next(tensor for tensor in model.graph.initializer if tensor.name == "ones")
    ones.CopyFrom(onnx.numpy_helper.from_array(np.array([2.0, 3.0], np.float32), "ones"))


def norm_with_a_computed_scale(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("Identity", ["ones"], ["computed"]))
    next(node for node in model.graph.node if node.op_type == "InstanceNormalization").input[1] = "computed"


def norm_that_is_an_answer_itself(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("normal", TensorProto.FLOAT, ["batch", 2, "places"]))


def norm_that_a_branch_reads(model: onnx.ModelProto) -> None:
    add_branch(model, "scaled")


def add_branch(model: onnx.ModelProto, name: str) -> None:
    """An `If` whose branches read a value around them, as a second answer."""
    branches = {
        f"{which}_branch": helper.make_graph(
            [helper.make_node("Neg", [name], [which])],
            which,
            [],
            [helper.make_tensor_value_info(which, TensorProto.FLOAT, IMAGES)],
        )
        for which in ("then", "else")
    }
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "holds"))
    model.graph.node.append(helper.make_node("If", ["holds"], ["branched"], **branches))
    model.graph.output.append(helper.make_tensor_value_info("branched", TensorProto.FLOAT, IMAGES))


@pytest.mark.parametrize(
    "change",
    [
        relu_for_mul,
        norm_with_a_scale_of_its_own,
        norm_with_a_computed_scale,
        norm_that_is_an_answer_itself,
        norm_that_a_branch_reads,
    ],
)
def test_other_forms_stay_as_they_are(change: Callable[[onnx.ModelProto], None]) -> None:
    model = norm_graph(IMAGES, 2)
    change(model)
    onnx.checker.check_model(model, full_check=True)
    assert with_channel_norms(model) == model


def test_what_a_branch_reads_is_kept() -> None:
    model = norm_graph(IMAGES, 2)
    model.graph.node.append(helper.make_node("Abs", ["images"], ["size"]))
    add_branch(model, "size")
    rewritten = with_channel_norms(model)
    onnx.checker.check_model(rewritten, full_check=True)
    assert "InstanceNormalization" not in kinds(rewritten) and {"Abs", "If"} <= kinds(rewritten)
    images = np.random.default_rng(0).normal(3, 2, (2, CHANNELS, SIDE, SIDE)).astype(np.float32)
    np.testing.assert_allclose(answer(rewritten, {"images": images}), answer(model, {"images": images}), atol=1e-4)
