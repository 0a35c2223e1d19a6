"""The exported graph: self-contained, dynamic, equal to its checkpoint, or not written at all."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.errors import ExportError
from nanocv_cli.exporting.parity import check_parity
from nanocv_cli.models.checkpoint import load_network, save_weights
from nanocv_cli.models.onnx_exporter import build_graph, check_graph
from nanocv_cli.tasks.base import largest_difference
from tests.conftest import Command, TrainedRun

CARD = ModelCard("toy", "classification", ("a", "b"), 8, "crop", "set", {}, "hash", version="1")


class Toy(nn.Module):
    """Mean colour to two probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.linear(images.float().mean((1, 2)) / 255).softmax(1),)


class FixedBatch(Toy):
    """A model that fixes the batch it was shown."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        return (super().forward(images)[0].reshape(2, 2),)


def test_the_graph_is_one_file_with_a_symbolic_batch_and_its_card(trained: TrainedRun, tmp_path: Path) -> None:
    alone = tmp_path / "alone.onnx"
    alone.write_bytes((trained.folder / "model.onnx").read_bytes())
    model = onnx.load(alone)
    onnx.checker.check_model(model, full_check=True)
    (images,), (probabilities,) = model.graph.input, model.graph.output
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_value for d in images.type.tensor_type.shape.dim[1:]] == [32, 32, 3]
    assert images.type.tensor_type.shape.dim[0].dim_param
    assert probabilities.type.tensor_type.shape.dim[0].dim_param == images.type.tensor_type.shape.dim[0].dim_param
    assert b"site-packages" not in alone.read_bytes()  # nor any other path of this machine
    card = ModelCard.from_metadata({p.key: p.value for p in model.metadata_props}, "alone")
    assert card.classes == ("blue", "green", "red")
    assert card.metrics == trained.summary["metrics"]
    assert card.split == "test"
    session = onnxruntime.InferenceSession(str(alone))
    for batch in (1, 2, 5):
        (answer,) = session.run(None, {"images": np.zeros((batch, 32, 32, 3), np.uint8)})
        assert answer.shape == (batch, 3)
        np.testing.assert_allclose(answer.sum(1), 1, rtol=1e-5)


def test_export_reports_parity(nanocv: Command, trained: TrainedRun, tmp_path: Path) -> None:
    outcome = nanocv("export", "onnx", "--model", trained.folder, "--out", tmp_path / "x.onnx", "--json")
    assert outcome.code == 0, outcome.err
    document = outcome.document
    assert document["bytes"] == (tmp_path / "x.onnx").stat().st_size
    assert document["precision"] == "fp32"
    assert document["parity"]["n"] == 12
    assert document["parity"]["batch_sizes"] == [1, 3, 8]
    assert document["parity"]["max_abs_error"] < 1e-5
    assert [p.name for p in tmp_path.iterdir()] == ["x.onnx"]


def test_a_graph_that_strays_is_refused_and_nothing_is_written(
    nanocv: Command, trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nanocv_cli.engine.graph import Graph

    honest = Graph.answer
    monkeypatch.setattr(Graph, "answer", lambda self, x: {k: v + 0.01 for k, v in honest(self, x).items()})
    target = tmp_path / "x.onnx"
    target.write_bytes(b"former")
    outcome = nanocv("export", "onnx", "--model", trained.folder, "--out", target, "--json")
    assert outcome.code == 1
    assert outcome.document["error"]["kind"] == "export"
    assert "strays from the checkpoint by 0.01" in outcome.document["error"]["message"]
    assert target.read_bytes() == b"former"
    assert [p.name for p in tmp_path.iterdir()] == ["x.onnx"]


def test_export_without_the_training_images_says_what_to_do(
    nanocv: Command, trained: TrainedRun, tmp_path: Path
) -> None:
    network, _, card = load_network(trained.folder / "checkpoints" / "best.safetensors")
    lost = {**card.config, "data": {**card.config["data"], "path": str(tmp_path / "gone")}}
    checkpoint = tmp_path / "moved.safetensors"
    save_weights(checkpoint, network.state_dict(), ModelCard(**{**vars(card), "config": lost}))
    outcome = nanocv("export", "onnx", "--model", checkpoint)
    assert outcome.code == 2
    assert "--data FOLDER" in outcome.err
    assert nanocv("export", "onnx", "--model", checkpoint, "--data", trained.data).code == 0
    assert (tmp_path / "moved.onnx").is_file()


def test_a_fixed_batch_is_refused() -> None:
    with pytest.raises(ExportError):
        build_graph(FixedBatch(), ("probabilities",), CARD)


def test_check_graph_sees_what_the_exporter_might_lose() -> None:
    model = build_graph(Toy(), ("probabilities",), CARD)
    check_graph(model, "toy")
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    fixed.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2
    with pytest.raises(ExportError, match="fixed batch"):
        check_graph(fixed, "toy")
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    broken.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ExportError, match="checker refuses"):
        check_graph(broken, "toy")


def test_parity_refuses_names_shapes_and_nan() -> None:
    images = np.zeros((4, 8, 8, 3), np.uint8)

    def answer(name: str = "p", columns: int = 2, value: float = 0.5):  # type: ignore[no-untyped-def]
        return lambda x: {name: np.full((len(x), columns), value, np.float32)}

    assert check_parity(
        answer(), answer(value=0.5001), images, 1e-3, largest_difference
    ).max_abs_error == pytest.approx(1e-4, rel=0.01)
    for other, message in (
        (answer("q"), "returns"),
        (answer(columns=3), "shape"),
        (answer(value=float("nan")), "strays"),
    ):
        with pytest.raises(ExportError, match=message):
            check_parity(answer(), other, images, 1e-3, largest_difference)


def test_parity_looks_at_different_images_in_every_batch() -> None:
    seen: list[int] = []

    def answer(x: np.ndarray) -> dict[str, np.ndarray]:
        seen.extend(x[:, 0, 0, 0].tolist())
        return {"p": np.zeros(len(x))}

    images = np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1)
    assert check_parity(answer, lambda x: {"p": np.zeros(len(x))}, images, 0.0, largest_difference).n == 12
    assert seen == list(range(12))
