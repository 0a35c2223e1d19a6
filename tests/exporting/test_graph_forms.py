"""The files of an export: OpenVINO's pair says what it is and holds together; a graph that is there already stays."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from nanocv_cli.engine import runtimes
from nanocv_cli.engine.engine import graph_files
from nanocv_cli.engine.graph import Graph
from nanocv_cli.engine.openvino_graph import OpenVinoGraph
from nanocv_cli.errors import ExportError, ModelError
from nanocv_cli.exporting.graph_forms import FORMS, write_openvino
from tests.conftest import Command, TrainedRun


@pytest.fixture(scope="module")
def pair(trained: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained run's graph as OpenVINO's files; they must not be written to."""
    path = tmp_path_factory.mktemp("pair") / "lenet.xml"
    write_openvino(onnx.load(trained.graph), path)
    return path


@pytest.fixture
def copied(pair: Path, tmp_path: Path) -> Path:
    for file in graph_files(pair):
        shutil.copy(file, tmp_path)
    return tmp_path / pair.name


def test_openvino_files_stand_for_the_model_wherever_it_is_run(
    nanocv: Command, trained: TrainedRun, tmp_path: Path
) -> None:
    done = nanocv("export", "openvino", "--model", trained.folder, "--out", tmp_path / "ov", "--json")
    assert done.code == 0, done.err
    document, path = done.document, tmp_path / "ov" / "best.xml"
    assert (document["path"], document["target"], document["precision"]) == (str(path), "openvino", "fp32")
    assert document["parity"]["n"] == 12 and document["parity"]["max_abs_error"] < 1e-3
    assert sorted(file.name for file in path.parent.iterdir()) == ["best.bin", "best.xml"]
    assert document["bytes"] == sum(file.stat().st_size for file in path.parent.iterdir())
    plain, graph = Graph(trained.graph), OpenVinoGraph(path)
    assert (graph.card, graph.signature) == (plain.card, plain.signature)
    image = next((trained.data / "test" / "red").iterdir())
    answered = nanocv("infer", image, "--model", path, "--json")
    assert answered.document["predictions"][0]["label"] == "red"
    evaluated = nanocv("eval", "--model", path, "--data", trained.data, "--engine", "onnx", "--json")
    assert evaluated.document["runtime"] == "openvino"
    assert evaluated.document["metrics"]["top1"] == pytest.approx(trained.summary["metrics"]["top1"])
    timed = nanocv("bench", "model", "--model", path, "--model", trained.graph, "--engines", "onnxruntime,openvino",
                   "--batch-sizes", "1", "--threads", "1", "--rounds", "1", "--round-s", "0.01", "--json")  # fmt: skip
    assert [(Path(row["model"]).suffix, row["engine"]) for row in timed.document["rows"]] == [
        (".xml", "openvino"), (".onnx", "onnxruntime"), (".onnx", "openvino")
    ]  # fmt: skip
    assert timed.document["rows"][0]["bytes"] == document["bytes"]
    by_default = nanocv("bench", "model", "--model", path, "--model", trained.graph, "--batch-sizes", "1", "--threads",
                        "1", "--rounds", "1", "--round-s", "0.01", "--json")  # fmt: skip
    assert [row["engine"] for row in by_default.document["rows"]] == ["openvino", "onnxruntime"]


def test_what_cannot_use_openvino_files_says_so_in_one_line(
    nanocv: Command, trained: TrainedRun, pair: Path, tmp_path: Path
) -> None:
    images = trained.data / "test" / "red"
    refused = {
        ("infer", images, "--engine", "onnxruntime"): "onnxruntime does not read lenet.xml",
        ("serve", "config", "--repository", tmp_path): "this needs the ONNX graph",
        ("analyze", "flops"): "this needs its checkpoint",
        ("bench", "model", "--engines", "onnxruntime"): "onnxruntime does not read lenet.xml",
    }
    for command, reason in refused.items():
        done = nanocv(*command, "--model", pair)
        assert done.code == 2 and reason in done.err, done.err


def test_without_openvino_the_extra_is_named(
    nanocv: Command, trained: TrainedRun, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = runtimes.Runtime("nowhere:nothing", "no_such_package", "openvino", formats=(".onnx", ".xml"))
    monkeypatch.setitem(runtimes.RUNTIMES, "openvino", row)
    for command in (
        ("export", "openvino", "--model", trained.folder, "--out", tmp_path / "x.xml"),
        ("infer", trained.data / "test" / "red", "--model", pair),
    ):
        done = nanocv(*command)
        assert done.code == 2 and "pip install 'nanocv[openvino]'" in done.err, done.err
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_pair_are_refused(copied: Path) -> None:
    weights = copied.with_suffix(".bin")
    former = weights.read_bytes()
    weights.write_bytes(former[:-4] + bytes(4))
    with pytest.raises(ModelError, match=r"was written with another \.bin"):
        OpenVinoGraph(copied)
    weights.write_bytes(former[: len(former) // 2])
    with pytest.raises(ModelError, match="cannot be loaded"):
        OpenVinoGraph(copied)
    weights.unlink()
    with pytest.raises(ModelError, match=r"needs lenet\.bin beside it"):
        OpenVinoGraph(copied)
    weights.write_bytes(former)
    copied.write_bytes(copied.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        OpenVinoGraph(copied)


def test_a_pair_that_was_not_written_by_nanocv_has_no_card(copied: Path) -> None:
    copied.write_text(copied.read_text().replace("nanocv.card", "another.card"))
    with pytest.raises(ModelError, match="carries no nanocv model card"):
        OpenVinoGraph(copied)


def test_what_fails_leaves_both_files_as_they_were(copied: Path) -> None:
    form = FORMS["openvino"]
    before = [file.read_bytes() for file in graph_files(copied)]
    with pytest.raises(ExportError), form.replacing(copied) as built:
        built.write_bytes(b"half")
        raise ExportError("it strays")
    assert [file.read_bytes() for file in graph_files(copied)] == before
    assert len(list(copied.parent.iterdir())) == 2


def test_an_operator_that_openvino_lacks_is_named(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    answer = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Frob", ["x"], ["y"], domain="own")], "g", [value], [answer])
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("own", 1)]
    with pytest.raises(ExportError, match=r"OpenVINO cannot run it: .*own\.Frob"):
        write_openvino(onnx.helper.make_model(graph, opset_imports=opsets), tmp_path / "x.xml")
    assert not list(tmp_path.iterdir())


def test_a_graph_that_is_there_already_stays_as_it_is(nanocv: Command, trained: TrainedRun, tmp_path: Path) -> None:
    target = tmp_path / "there.onnx"
    model = onnx.load(trained.graph)
    for node in model.graph.node:  # as another release of torch tells of the modules
        del node.metadata_props[:]
    onnx.save(model, target)
    former = target.read_bytes(), target.stat().st_mtime_ns
    export = ("export", "onnx", "--model", trained.folder, "--out", target)
    assert nanocv(*export).code == 0
    assert (target.read_bytes(), target.stat().st_mtime_ns) == former
    weights = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    weights.CopyFrom(onnx.numpy_helper.from_array(0.5 * onnx.numpy_helper.to_array(weights), weights.name))
    onnx.save(model, target)
    assert nanocv(*export).code == 0
    fresh = Graph(target).run(np.zeros((1, 32, 32, 3), np.uint8))["probabilities"]
    np.testing.assert_array_equal(fresh, Graph(trained.graph).run(np.zeros((1, 32, 32, 3), np.uint8))["probabilities"])
