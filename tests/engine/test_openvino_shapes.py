"""Batches of any size are answered right, whatever sizes a graph is compiled for; images are transposed last."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from nanocv_cli.engine.openvino_shapes import FILLED_UP, MOST_SIZES, GraphBySize, Requests, keep_pixels_together
from tests.engine.graphs import write_graph

HEIGHT, WIDTH = 6, 4


class Compiler:
    """Compiles, and notes the batch sizes that it was asked for; -1 is any."""

    def __init__(self, refuses_sizes: bool = False) -> None:
        self.sizes: list[int] = []
        self._refuses_sizes = refuses_sizes
        self._compiled: list[weakref.ref[Any]] = []

    def __call__(self, model: Any) -> Any:
        first = model.inputs[0].partial_shape[0]
        self.sizes.append(first.get_length() if first.is_static else -1)
        if self._refuses_sizes and first.is_static:
            raise RuntimeError("no such size")
        compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        self._compiled.append(weakref.ref(compiled))
        return compiled

    @property
    def alive(self) -> int:
        """How many of what it has compiled are still kept."""
        gc.collect()
        return sum(compiled() is not None for compiled in self._compiled)


def colours(folder: Path, **options: Any) -> Any:
    return openvino.Core().read_model(str(write_graph(folder / "colours.onnx", **options)))


def photos(count: int, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, height, width, 3), np.uint8)


def test_a_smaller_batch_is_filled_up_until_it_is_asked_for_often(tmp_path: Path) -> None:
    compiler = Compiler()
    requests = Requests(GraphBySize(colours(tmp_path), compiler))
    assert compiler.sizes == []
    for rows, wanted in [(4, [4]), *[(3, [4])] * FILLED_UP, (3, [4, 3]), (3, [4, 3]), (8, [4, 3, 8]), (5, [4, 3, 8])]:
        answer = requests.answer({"images": photos(rows)})["probabilities"]
        means = photos(rows).mean((1, 2))
        assert answer.shape == (rows, 3) and (answer.argmax(1) == means.argmax(1)).all()
        assert compiler.sizes == wanted


def test_no_more_sizes_are_kept_than_memory_is_meant_for(tmp_path: Path) -> None:
    compiler = Compiler()
    requests = Requests(GraphBySize(colours(tmp_path), compiler))
    for rows in range(1, MOST_SIZES + 3):
        requests.answer({"images": photos(rows)})
    grown = list(compiler.sizes)
    assert grown == list(range(1, MOST_SIZES + 3)) and compiler.alive == MOST_SIZES
    for _ in range(FILLED_UP + 2):  # 1 and 2 have made room
        assert len(requests.answer({"images": photos(2)})["probabilities"]) == 2
    assert compiler.sizes == grown


@pytest.mark.parametrize(
    ("shape", "refuses", "sizes"),
    [(("batch", "height", 8, 3), False, [-1]), ((2, 8, 8, 3), False, [2]), (("batch", 8, 8, 3), True, [2, -1])],
)
def test_what_has_no_sizes_of_its_own_is_compiled_once(
    tmp_path: Path, shape: tuple[int | str, ...], refuses: bool, sizes: list[int]
) -> None:
    compiler = Compiler(refuses)
    requests = Requests(GraphBySize(colours(tmp_path, shape=shape), compiler))
    for _ in range(2):
        assert requests.answer({"images": photos(2)})["probabilities"].shape == (2, 3)
    assert compiler.sizes == sizes


def test_rows_of_what_has_no_batch_stay_as_they_are(tmp_path: Path) -> None:
    compiler = Compiler()
    requests = Requests(GraphBySize(colours(tmp_path), compiler, None))
    for rows in (8, 3):
        assert requests.answer({"images": photos(rows)})["probabilities"].shape == (rows, 3)
    assert compiler.sizes == [-1]


def convolved(quantised: bool = False, width: int | str = WIDTH, order: tuple[int, ...] = (0, 3, 1, 2)) -> Any:
    """Transposed, normalised by channel, perhaps quantised, then convolved."""
    scale, shift = ([[[[0.1]], [[0.2]], [[0.3]]]], [[[[-1.0]], [[0.5]], [[2.0]]]])
    constants = {"scale": scale, "shift": shift, "kernel": np.random.default_rng(0).standard_normal((2, 3, 3, 3))}
    tensors = [numpy_helper.from_array(np.array(values, np.float32), name) for name, values in constants.items()]
    tensors += [numpy_helper.from_array(np.array(0.31, np.float32), "step"),
                numpy_helper.from_array(np.array(20, np.uint8), "zero")]  # fmt: skip
    nodes = [
        helper.make_node("Transpose", ["images"], ["planes"], perm=order),
        helper.make_node("Cast", ["planes"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["normal"]),
        helper.make_node("QuantizeLinear", ["normal", "step", "zero"], ["whole"]),
        helper.make_node("DequantizeLinear", ["whole", "step", "zero"], ["back"]),
        helper.make_node("Conv", ["back" if quantised else "normal", "kernel"], ["answer"]),
    ]
    graph = helper.make_graph(
        [node for node in nodes if quantised or not node.op_type.endswith("Linear")],
        "convolved",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ("batch", HEIGHT, width, 3))],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)],
        tensors if quantised else tensors[:3],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return openvino.Core().read_model(model.SerializeToString())


def kinds_before_convolution(model: Any) -> list[str]:
    """What happens to images first of all stands last."""
    (node,) = (node for node in model.get_ops() if node.get_type_name() == "Convolution")
    kinds = []
    while (node := node.input_value(0).get_node()).get_type_name() != "Parameter":
        kinds.append(str(node.get_type_name()))
    return kinds


@pytest.mark.parametrize("quantised", [False, True])
def test_transposed_last_every_value_is_the_same(quantised: bool) -> None:
    answers = []
    for change in (lambda model: None, keep_pixels_together):
        model = convolved(quantised)
        change(model)
        request = Compiler()(model).create_infer_request()
        answers.append(request.infer({"images": photos(3, HEIGHT, WIDTH)})["answer"])
    assert kinds_before_convolution(model).index("Transpose") < kinds_before_convolution(model).index("Add")
    assert kinds_before_convolution(convolved(quantised))[-1] == "Transpose"
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-4)


@pytest.mark.parametrize(
    "made", [lambda: convolved(width="width"), lambda: convolved(order=(0, 3, 2, 1))], ids=["open width", "other order"]
)
def test_what_is_not_known_is_left_alone(made: Callable[[], Any]) -> None:
    model = made()
    keep_pixels_together(model)
    assert kinds_before_convolution(model) == ["Add", "Multiply", "Convert", "Transpose"]
