"""Layers of ONNX graphs, without torch."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from nanocv_cli.analysis.onnx_graph import MOST_TURNS, analyse_graph
from nanocv_cli.errors import ModelError
from tests.conftest import TrainedRun

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def save(path: Path, nodes: list[Any], inputs: dict[str, Any], weights: dict[str, Any], opset: int = 20) -> Path:
    made = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()]
    out = helper.make_tensor_value_info("out", FLOAT, None)
    kept = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "graph", made, [out], kept)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), str(path))
    return path


def floats(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


def macs(path: Path, **options: Any) -> int:
    return analyse_graph(path, **options).model.macs


@pytest.mark.parametrize(
    ("node", "inputs", "weights", "expected"),
    [
        (helper.make_node("Conv", ["x", "w"], ["out"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=2),
         {"x": ["n", 8, 10, 10]}, {"w": floats(6, 4, 3, 3)}, 10 * 10 * 6 * 4 * 9),
        (helper.make_node("ConvTranspose", ["x", "w"], ["out"], strides=[2, 2]),
         {"x": ["n", 8, 5, 5]}, {"w": floats(8, 6, 2, 2)}, 25 * 8 * 6 * 4),
        (helper.make_node("Gemm", ["x", "w"], ["out"], transB=1), {"x": ["n", 16]}, {"w": floats(5, 16)}, 80),
        (helper.make_node("Gemm", ["w", "x"], ["out"], transA=1), {"x": [16, 3]}, {"w": floats(16, 5)}, 5 * 16 * 3),
        (helper.make_node("MatMul", ["x", "w"], ["out"]), {"x": ["n", 7, 16]}, {"w": floats(16, 5)}, 7 * 16 * 5),
        (helper.make_node("MatMul", ["x", "y"], ["out"]), {"x": ["n", 4, 7, 16], "y": ["n", 4, 16, 9]}, {},
         4 * 7 * 16 * 9),
        (helper.make_node("Einsum", ["x", "y"], ["out"], equation="bhid,bhjd->bhij"),
         {"x": ["n", 4, 7, 16], "y": ["n", 4, 9, 16]}, {}, 4 * 7 * 9 * 16),
    ],
)  # fmt: skip
def test_products_by_hand(tmp_path: Path, node: Any, inputs: Any, weights: Any, expected: int) -> None:
    path = save(tmp_path / "g.onnx", [node], inputs, weights)
    model = analyse_graph(path).model
    assert model.macs == expected
    assert model.params == sum(value.size for value in weights.values())
    (layer,) = model.layers
    assert layer.product is not None
    assert layer.product.macs == expected


def test_the_trained_graph_has_the_arithmetic_of_its_checkpoint(trained: TrainedRun) -> None:
    model = analyse_graph(trained.folder / "model.onnx").model
    products = [layer.flops() for layer in model.layers if layer.macs]
    assert products == [2 * 9 * 3 * 16 * 16 * 16, *[2 * 9 * 16 * 32 * 8 * 8] * 4, 2 * 256 * 3]
    assert model.inputs == ("images uint8 [1, 32, 32, 3]",)
    assert model.assumptions == ()


def loop(turns: Any, *work: onnx.NodeProto, shape: tuple[int, ...] | None = (1, 16)) -> onnx.NodeProto:
    """A loop over `x` that works its way from `state` to `next`, by a Relu where no other work is given."""
    work = work or (helper.make_node("Relu", ["state"], ["next"]),)
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["still"]), *work],
        "body",
        [
            helper.make_tensor_value_info("i", INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", FLOAT, shape),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", FLOAT, shape),
        ],
    )
    return helper.make_node("Loop", [turns, "", "x"], ["out"], body=body, name="loop")


PRODUCT = helper.make_node("MatMul", ["state", "w"], ["next"])


def test_a_count_that_follows_from_constants_is_known_and_what_a_loop_carries_keeps_its_shape(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["steps", "steps"], ["twice"]),
        helper.make_node("Sub", ["twice", "one"], ["count"]),
        loop("count", PRODUCT, shape=None),
    ]
    weights = {"steps": np.array(4), "one": np.array(1), "w": floats(16, 16)}
    assert macs(save(tmp_path / "g.onnx", nodes, {"x": [1, 16]}, weights)) == 7 * 16 * 16
    asked = {"x": [1, 16], "steps": []}
    unknown = analyse_graph(save(tmp_path / "u.onnx", nodes, asked, {k: v for k, v in weights.items() if k != "steps"}))
    assert unknown.model.macs == 16 * 16
    assert any("as if it ran once" in line for line in unknown.model.assumptions)


def test_a_loop_with_a_known_count_multiplies_its_body(tmp_path: Path) -> None:
    weights = {"w": floats(16, 16), "count": np.array(12, np.int64)}
    model = analyse_graph(save(tmp_path / "g.onnx", [loop("count", PRODUCT)], {"x": [1, 16]}, weights)).model
    assert model.macs == 12 * 16 * 16
    assert model.params == 256 == sum(layer.params for layer in model.layers)


@pytest.mark.parametrize("turns", [2**62, 10**9, -1])
def test_a_loop_of_years_is_counted_in_a_moment(tmp_path: Path, turns: int) -> None:
    path = save(tmp_path / "g.onnx", [loop("count")], {"x": [1, 16]}, {"count": np.array(turns)})
    model = analyse_graph(path).model
    assert len(model.layers) <= 2
    assert turns < 0 or any(f"runs {turns:,} times" in line for line in model.assumptions)


def test_a_count_is_worked_out_by_arithmetic_of_single_numbers_alone(tmp_path: Path) -> None:
    grown = helper.make_node("ConstantOfShape", ["size"], ["many"])
    last = helper.make_node("ReduceSum", ["many"], ["count"], keepdims=0)
    inner = helper.make_node("Loop", ["forever", "", "one"], ["count"], body=loop("x").attribute[0].g)
    for nodes in ([grown, last], [inner]):
        weights = {"size": np.array([2**50]), "forever": np.array(2**62), "one": floats(1, 16)}
        path = save(tmp_path / "g.onnx", [*nodes, loop("count")], {"x": [1, 16]}, weights)
        try:
            model = analyse_graph(path).model
        except ModelError:
            continue
        assert any("as if it ran once" in line for line in model.assumptions)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_graph_is_analysed_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    node = helper.make_node("Einsum", ["x", "y"], ["z"], equation="bhid,bhjd->bhij")
    weights = {"w": floats(6, 4, 3, 3), "count": np.array(3)}
    path = save(tmp_path / "g.onnx", [node, loop("count")], {"x": ["n", 4, 7, 16], "y": ["n", 4, 9, 16]}, weights)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        model = analyse_graph(path, input_size=8).model
    except ModelError as error:
        assert "\n" not in error.message
    else:
        # A damaged count lets the loop turn oftener: a layer each time, after the one before it.
        assert len(model.layers) <= MOST_TURNS + 1


def test_open_sizes_must_be_given(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["out"], kernel_shape=[1, 1])
    path = save(tmp_path / "g.onnx", [node], {"x": ["n", 8, "h", "w0"]}, {"w": floats(6, 8, 1, 1)})
    with pytest.raises(ModelError, match="leaves size 2 of its input x open"):
        analyse_graph(path)
    assert macs(path, input_size=10) == 100 * 48
    assert macs(path, shapes={"x": (1, 8, 4, 5)}) == 20 * 48
    with pytest.raises(ModelError, match="no input 'y'"):
        analyse_graph(path, shapes={"y": (1,)})


def test_a_shape_that_values_decide_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["places"]), helper.make_node("Cast", ["places"], ["out"], to=FLOAT)]
    model = analyse_graph(save(tmp_path / "g.onnx", nodes, {"x": [1, 16]}, {})).model
    assert any("depends on values" in line for line in model.assumptions)
    assert model.uncounted() == {"NonZero": 1}


@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 500, b"not a graph"])
def test_rubbish_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rubbish.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is no ONNX graph") as refused:
        analyse_graph(path)
    assert "\n" not in refused.value.message


def test_a_graph_is_analysed_without_torch(trained: TrainedRun) -> None:
    code = (
        "import sys; sys.argv = ['nanocv', 'analyze', 'flops', '--model', sys.argv[1], '--json']\n"
        "from nanocv_cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(trained.folder / "model.onnx")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
