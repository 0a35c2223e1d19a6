"""A graph of less precision is written only if its metric holds; what hurts most stays in fp32."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from nanocv_cli.engine.graph import Graph
from nanocv_cli.engine.openvino_graph import OpenVinoGraph
from nanocv_cli.errors import RequestError
from nanocv_cli.exporting import precision
from nanocv_cli.exporting.loop_body import Feed
from nanocv_cli.exporting.precision import PRECISIONS, ExportPrecision, slow_here, to_half
from nanocv_cli.exporting.reduced_file import loss
from nanocv_cli.images.resize import open_square
from nanocv_cli.rooms import Score
from tests.conftest import Command, TrainedRun

# Between the best and the second class: what each processor's own rounding of int8 does not turn round.
CLEARLY = 0.25

seen: list[Feed] = []


def spoil_the_classifier(model: onnx.ModelProto, calibration: Sequence[Feed], kept: Sequence[str]) -> onnx.ModelProto:
    """A converter under which no class can be told any more, unless the last layer is kept."""
    seen.extend(calibration)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    last = [node for node in copy.graph.node if node.op_type == "Gemm"][-1]
    if last.name in kept:
        return copy
    for weights in copy.graph.initializer:
        if weights.name in last.input[1:]:
            weights.CopyFrom(numpy_helper.from_array(0 * numpy_helper.to_array(weights), weights.name))
    return copy


def spoil_all(model: onnx.ModelProto, calibration: Sequence[Feed], kept: Sequence[str]) -> onnx.ModelProto:
    return spoil_the_classifier(model, calibration, ())


def keep_all(model: onnx.ModelProto, calibration: Sequence[Feed], kept: Sequence[str]) -> onnx.ModelProto:
    """A converter that loses nothing."""
    seen.extend(calibration)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def use(monkeypatch: pytest.MonkeyPatch, converter: Any) -> None:
    monkeypatch.setitem(PRECISIONS, "int8", ExportPrecision(f"{__name__}:{converter.__name__}", "onnx"))


@pytest.mark.slow(8)
@pytest.mark.parametrize(("name", "most_bytes"), [("fp16", 0.7), ("bf16", 0.7), ("int8", 0.9)])
def test_a_graph_of_less_precision_is_smaller_and_answers_alike(
    nanocv: Command, trained: TrainedRun, tmp_path: Path, name: str, most_bytes: float
) -> None:
    target = tmp_path / "less.onnx"
    done = nanocv("export", "onnx", "--model", trained.folder, "--precision", name, "--max-drop", "100", "--out",
                  target, "--json")  # fmt: skip
    assert done.code == 0, done.err
    document = done.document
    assert (document["precision"], document["bytes"]) == (name, target.stat().st_size)
    assert document["bytes"] < most_bytes * trained.graph.stat().st_size
    lost = 100 * (document["metrics_before"]["top1"] - document["metrics_after"]["top1"])
    assert document["drop"] == pytest.approx(lost)
    plain = Graph(trained.graph)
    files = sorted((trained.data / "val").rglob("*.png"))
    images = np.stack([open_square(file, plain.card.input_size, plain.card.resize)[0] for file in files])
    expected = plain.run(images)["probabilities"]
    second, first = np.sort(expected, axis=1).T[-2:]
    sure = first - second > CLEARLY
    assert sure.mean() > 0.5
    for graph in (Graph(target), OpenVinoGraph(target)):
        assert (graph.card.precision, graph.card.split) == (name, "val")
        assert graph.card.metrics == document["metrics_after"]
        assert graph.card.cost["before"] == document["metrics_before"]
        assert graph.card.cost["drop"] == document["drop"]
        assert graph.signature == plain.signature
        answers = graph.run(images)["probabilities"]
        assert (answers.argmax(1) == expected.argmax(1))[sure].all()
    model = onnx.load(target)
    scales = [node.input[1] for node in model.graph.node if node.op_type == "DequantizeLinear"]
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    # Weights have a scale for each of the channels.
    assert any(len(shapes[scale]) == 1 and shapes[scale][0] > 1 for scale in scales) == (name == "int8")


def test_a_layer_that_hurts_stays_in_fp32(
    nanocv: Command, trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, spoil_the_classifier)
    done = nanocv("export", "onnx", "--model", trained.folder, "--precision", "int8", "--out", tmp_path / "x.onnx",
                  "--json")  # fmt: skip
    assert done.code == 0, done.err
    (kept,) = done.document["kept"]
    assert next(node.op_type for node in onnx.load(trained.graph).graph.node if node.name == kept) == "Gemm"
    assert done.document["drop"] == 0.0
    assert f"left in fp32: {kept}" in done.err
    changes = done.document["sensitivity"]
    assert next(iter(changes)) == kept and len(changes) == 6 and max(changes.values()) == changes[kept] > 0
    assert f"{100 * changes[kept]:.3f} %  {kept}" in done.err
    # Ranges are chosen by the training split alone.
    card = Graph(trained.graph).card
    files = sorted((trained.data / "train").rglob("*.png"))
    training = {open_square(file, card.input_size, card.resize)[0].tobytes() for file in files}
    assert {feed["images"].tobytes() for feed in seen} == training


def test_what_loses_too_much_is_not_written(
    nanocv: Command, trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, spoil_all)
    target = tmp_path / "x.onnx"
    target.write_bytes(b"former")
    done = nanocv("export", "onnx", "--model", trained.folder, "--precision", "int8", "--out", target, "--json")
    assert done.code == 1
    assert "top1 loses" in done.document["error"]["message"] and "allowed 1" in done.document["error"]["message"]
    assert "--max-drop" in done.document["error"]["hint"]
    assert target.read_bytes() == b"former"


def test_what_cannot_be_is_refused(
    nanocv: Command, trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = ("export", "onnx", "--model", trained.folder, "--out", tmp_path / "x.onnx")
    unknown = nanocv(*export, "--precision", "fp8")
    assert unknown.code == 2 and "use fp32, fp16, bf16, int8" in unknown.err
    for drop in ("-0.1", "101", "nan", "much"):
        outside = nanocv(*export, "--precision", "int8", "--max-drop", drop)
        assert outside.code == 2 and "max-drop" in outside.err, drop
    again = nanocv("export", "openvino", "--model", trained.graph, "--precision", "int8")
    assert again.code == 2 and "is an exported graph; this needs its checkpoint" in again.err
    monkeypatch.setattr(precision, "find_spec", lambda name: None)
    missing = nanocv(*export, "--precision", "int8")
    assert missing.code == 2 and "pip install 'nanocv[int8]'" in missing.err
    assert not list(tmp_path.iterdir())


def test_an_image_that_cannot_be_read_is_left_out_of_the_calibration(
    nanocv: Command, trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shutil.copytree(trained.data, tmp_path / "data")
    damaged = sorted((data / "train" / "red").iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:40])
    use(monkeypatch, keep_all)
    seen.clear()
    done = nanocv("export", "openvino", "--model", trained.folder, "--precision", "int8", "--data", data, "--out",
                  tmp_path / "x.xml", "--json")  # fmt: skip
    assert done.code == 0, done.err
    assert f"left out of train: {damaged}" in done.err
    assert len(seen) == len(list((data / "train").rglob("*.png"))) - 1
    document, graph = done.document, OpenVinoGraph(tmp_path / "x.xml")
    assert (document["target"], document["engine"], document["drop"]) == ("openvino", "openvino", 0.0)
    assert (graph.card.precision, graph.card.cost["engine"]) == ("int8", "openvino")
    assert graph.card.cost["before"] == document["metrics_before"] == graph.card.metrics


def test_a_set_to_test_with_alone_is_no_set_to_quantise_by(
    nanocv: Command, trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shutil.copytree(trained.data, tmp_path / "data", ignore=shutil.ignore_patterns("train", "val"))
    use(monkeypatch, keep_all)
    done = nanocv("export", "onnx", "--model", trained.folder, "--precision", "int8", "--data", data, "--out",
                  tmp_path / "x.onnx")  # fmt: skip
    assert done.code == 2
    assert "give any set with --data FOLDER" in done.err
    assert not (tmp_path / "x.onnx").exists()


def test_a_processor_that_gains_nothing_is_told_so() -> None:
    assert "int8 saves memory here, but hardly time" in slow_here("int8", {"avx2", "fma"})
    assert "avx512_vnni" in slow_here("int8", {"avx2"})
    assert slow_here("bf16", {"avx512_vnni"})
    for name, flags in (("int8", {"avx2", "avx_vnni"}), ("bf16", {"amx_bf16"}), ("fp16", {"sse2"}), ("int8", ())):
        assert not slow_here(name, flags)


def test_a_loss_is_told_in_points_of_a_share_or_in_percent_of_an_error() -> None:
    assert loss(Score("top1"), {"top1": 0.9}, {"top1": 0.885}) == pytest.approx(1.5)
    assert loss(Score("mae", lowest_is_best=True, is_share=False), {"mae": 2.0}, {"mae": 2.1}) == pytest.approx(5.0)
    assert loss(Score("top1"), {"top1": 0.9}, {"top1": 0.91}) == pytest.approx(-1.0)


def test_a_score_that_nothing_decides_is_told() -> None:
    with pytest.raises(RequestError, match="nothing in the validation split decides map"):
        loss(Score("map"), {"map": None}, {"map": None})


def test_half_leaves_the_graph_it_came_from_as_it_is(trained: TrainedRun) -> None:
    model = onnx.load(trained.graph)
    before = model.SerializeToString()
    half = to_half(model, [], ())
    assert model.SerializeToString() == before
    assert any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in half.graph.initializer)
