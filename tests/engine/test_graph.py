"""Graphs are run as their cards promise; files that are not ours are refused in one line."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from nanocv_cli.engine.graph import Graph
from nanocv_cli.errors import ModelError
from tests.engine.graphs import COLOURS, SIDE, colour_card, write_graph


def test_a_graph_answers_batches_of_any_size(tmp_path: Path) -> None:
    runner = Graph(write_graph(tmp_path / "model.onnx"), threads=1)
    assert runner.card == colour_card()
    for count in (1, 5):
        images = np.zeros((count, SIDE, SIDE, 3), np.uint8)
        images[..., 1] = 200
        outputs = runner.run(images)
        assert list(outputs) == ["probabilities"]
        assert outputs["probabilities"].shape == (count, len(COLOURS))
        assert outputs["probabilities"].dtype == np.float32
        assert (outputs["probabilities"].argmax(1) == COLOURS.index("green")).all()


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b"rubbish", "cannot be loaded"), (None, "cannot be loaded")]
)
def test_damaged_files(tmp_path: Path, content: bytes | None, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_graph(tmp_path / "model.onnx")
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    with pytest.raises(ModelError, match=message) as caught:
        Graph(path)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert capfd.readouterr() == ("", "")  # ONNX Runtime's own log would add lines of its own


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no graph"):
        Graph(tmp_path / "model.onnx")


def test_a_graph_of_somebody_else(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no nanocv model card"):
        Graph(write_graph(tmp_path / "model.onnx", metadata={"author": "x"}))


@pytest.mark.parametrize(
    ("input_type", "shape", "message"),
    [
        (TensorProto.FLOAT, ("batch", SIDE, SIDE, 3), "takes tensor"),
        (TensorProto.UINT8, ("batch", SIDE + 1, SIDE, 3), "takes tensor"),
        (TensorProto.UINT8, (2, SIDE, SIDE, 3), "exactly 2 images at a time"),
    ],
)
def test_an_input_other_than_the_card_promises(
    tmp_path: Path, input_type: int, shape: tuple[int | str, ...], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        Graph(write_graph(tmp_path / "model.onnx", input_type=input_type, shape=shape)).expect_images()


def test_a_failure_while_running_is_one_line(tmp_path: Path) -> None:
    runner = Graph(write_graph(tmp_path / "model.onnx"))
    with pytest.raises(ModelError, match="failed on 2 images") as caught:
        runner.run(np.zeros((2, SIDE, SIDE, 4), np.uint8))
    assert "\n" not in caught.value.message


def test_a_graph_of_one_image_answers_any_number_one_by_one(tmp_path: Path) -> None:
    any_batch = Graph(write_graph(tmp_path / "any.onnx"))
    single = Graph(write_graph(tmp_path / "one.onnx", shape=(1, SIDE, SIDE, 3)))
    images = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    for name, rows in any_batch.run(images).items():
        np.testing.assert_allclose(single.run(images)[name], rows, atol=1e-6)
