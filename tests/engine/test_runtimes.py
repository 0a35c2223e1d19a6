"""A graph answers the same whatever runs it in this process; what cannot run it says so in one line."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nanocv_cli.engine.engine import Engine, open_engine
from nanocv_cli.engine.fastest import Timing, with_fastest
from nanocv_cli.engine.graph import Graph
from nanocv_cli.engine.openvino_graph import OpenVinoGraph
from nanocv_cli.engine.reference import find_graph
from nanocv_cli.engine.runtimes import BF16, RUNTIMES, RunSettings, Runtime, open_in_process
from nanocv_cli.errors import ModelError, RequestError
from nanocv_cli.images.resize import open_square
from nanocv_cli.tasks.table import task_for
from tests.conftest import REPOSITORY, Command, TrainedRun
from tests.engine.graphs import SIDE, write_graph

AUTO = RunSettings("auto", threads=1)
LOOSE = 0.05  # of a probability computed in bf16, which has 8 bits


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


@pytest.mark.parametrize("rows", ["batch", 1])
def test_openvino_answers_as_onnx_runtime_does(tmp_path: Path, rows: str | int) -> None:
    path = write_graph(tmp_path / "model.onnx", shape=(rows, SIDE, SIDE, 3))
    here, there = Graph(path), OpenVinoGraph(path)
    assert (there.card, there.signature, there.most_rows) == (here.card, here.signature, here.most_rows)
    assert (here.runtime, there.runtime, there.device) == ("onnxruntime", "openvino", "cpu")
    for count in (1, 3, 8):
        for name, values in here.run(images(count)).items():
            answer = there.run(images(count))[name]
            assert answer.dtype == values.dtype
            np.testing.assert_allclose(answer, values, atol=1e-6)


@pytest.mark.parametrize("name", ["lenet-flowers", "nanospot-flowers", "nanoseg-flowers"])
def test_the_pretrained_models_agree_within_the_parity_of_their_task(name: str) -> None:
    path = find_graph(name, REPOSITORY)
    here, there = Graph(path, 1), OpenVinoGraph(path, 1)
    photos = [REPOSITORY / "images" / file for file in ("annotated.jpg", "detected.jpg", "overlays.jpg")]
    squares = np.stack([open_square(photo, here.card.input_size, here.card.resize)[0] for photo in photos])
    task = task_for(here.card.task)
    assert task.parity_error(here.run(squares), there.run(squares)) <= task.tolerance


def test_bf16_is_near_where_the_processor_has_it_and_refused_elsewhere(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "model.onnx")
    try:
        answer = OpenVinoGraph(path, precision=BF16).run(images(4))
    except RequestError as refused:
        assert refused.message == "this processor does not compute in bf16"
    else:
        np.testing.assert_allclose(answer["probabilities"], Graph(path).run(images(4))["probabilities"], atol=LOOSE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (RunSettings("openvin"), "unknown engine 'openvin'"),
        (RunSettings("onnxruntime", precision=BF16), "onnxruntime does not compute in bf16"),
        (RunSettings("openvino", precision="fp4"), "openvino does not compute in fp4"),
        (RunSettings("openvino", device="cuda"), "not on 'cuda'"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(tmp_path: Path, settings: RunSettings, message: str) -> None:
    path = write_graph(tmp_path / "model.onnx")
    with pytest.raises(RequestError, match=message) as refused:
        open_in_process(path, settings, tmp_path)
    assert refused.value.hint


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "auto"])
def test_a_served_model_has_its_own_engine(engine: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has its own"):
        open_engine("http://127.0.0.1:9/lenet", tmp_path, RunSettings(engine))


def test_an_engine_that_is_not_installed_is_told_with_what_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RUNTIMES, "openvino", replace(RUNTIMES["openvino"], package="no_such_package"))
    path = write_graph(tmp_path / "model.onnx")
    with pytest.raises(RequestError, match="no_such_package is not installed") as refused:
        open_in_process(path, RunSettings("openvino"), tmp_path)
    assert refused.value.hint == "pip install 'nanocv[openvino]'"
    assert with_fastest(path, AUTO, tmp_path).runtime == "onnxruntime"


def test_a_file_or_an_operator_that_openvino_cannot_run_is_one_line(tmp_path: Path) -> None:
    unknown = helper.make_graph(
        [helper.make_node("Telepathy", ["images"], ["thoughts"])],
        "mind",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("thoughts", TensorProto.FLOAT, ["batch", 3])],
    )
    onnx.save(helper.make_model(unknown, opset_imports=[helper.make_opsetid("", 20)]), str(tmp_path / "mind.onnx"))
    (tmp_path / "damaged.onnx").write_bytes(b"\x08\x0a nothing of the kind")
    (tmp_path / "empty.onnx").touch()
    for name, told in (("mind", "Telepathy"), ("damaged", "cannot be loaded by OpenVINO"), ("empty", "is empty")):
        with pytest.raises(ModelError, match=told) as caught:
            OpenVinoGraph(tmp_path / f"{name}.onnx")
        assert "\n" not in caught.value.message
    with pytest.raises(ModelError, match="carries no nanocv model card"):
        OpenVinoGraph(write_graph(tmp_path / "bare.onnx", metadata={}))
    with pytest.raises(ModelError, match="failed in OpenVINO") as caught:
        OpenVinoGraph(write_graph(tmp_path / "model.onnx")).run(np.zeros((2, SIDE, SIDE, 4), np.uint8))
    assert "\n" not in caught.value.message


def test_its_telemetry_is_never_imported() -> None:
    script = (
        "import nanocv_cli.engine.openvino_graph, openvino.tools.ovc.telemetry_utils as utils, sys\n"
        "print(utils.tm.__name__, any(name.startswith('openvino_telemetry.') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "False"]


def test_auto_measures_a_model_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, cache = write_graph(tmp_path / "model.onnx"), tmp_path / "cache"
    chosen = with_fastest(path, AUTO, cache)
    assert chosen.runtime in RUNTIMES
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert "measured now" in told.err and "openvino" in told.err and "onnxruntime" in told.err
    assert with_fastest(path, AUTO, cache) == chosen
    assert "as measured before" in capsys.readouterr().err
    (record,) = (cache / "engines").iterdir()
    record.write_text("{")
    with_fastest(path, AUTO, cache)
    assert "measured now" in capsys.readouterr().err
    with_fastest(write_graph(tmp_path / "other.onnx", strength=0.1), AUTO, cache)
    assert "measured now" in capsys.readouterr().err
    assert len(list((cache / "engines").iterdir())) == 2
    assert open_in_process(path, AUTO, cache).runtime in RUNTIMES


def test_auto_takes_the_fastest_and_passes_over_what_cannot_run_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Timing(8, {"onnxruntime": 2.0, "openvino": 1.0}).fastest == "openvino"
    path = write_graph(tmp_path / "model.onnx")
    assert with_fastest(path, replace(AUTO, with_defaults=True), tmp_path).runtime == "onnxruntime"
    monkeypatch.setitem(RUNTIMES, "onnxruntime", Runtime(f"{__name__}:open_nothing", "onnxruntime"))
    assert with_fastest(path, AUTO, tmp_path).runtime == "openvino"
    monkeypatch.setitem(RUNTIMES, "openvino", Runtime(f"{__name__}:open_nothing", "openvino"))
    with pytest.raises(ModelError, match="telepathy"):
        with_fastest(path, replace(AUTO, threads=2), tmp_path)
    with pytest.raises(RequestError, match="computes in bf16"):
        with_fastest(path, replace(AUTO, precision=BF16), tmp_path)


def open_nothing(path: Path, settings: RunSettings) -> Engine:
    raise ModelError("no telepathy here", "ask")


def test_the_commands_take_an_engine(tmp_path: Path, nanocv: Command, project: Path, tiny_set: Path) -> None:
    path = write_graph(project / "model.onnx")
    image = next((tiny_set / "val" / "red").iterdir())
    plain, other = (
        nanocv("infer", image, "--model", path, "--json", *engine) for engine in ((), ("--engine", "openvino"))
    )
    answers = [{one["label"]: one["score"] for one in done.document["predictions"]} for done in (plain, other)]
    assert answers[1] == pytest.approx(answers[0], abs=1e-4)
    benched = nanocv("bench", "model", "--model", path, "--engines", "onnxruntime,openvino", "--batch-sizes", "1",
                     "--threads", "1", "--rounds", "1", "--round-s", "0.05", "--json")  # fmt: skip
    assert benched.code == 0, benched.err
    assert [(row["engine"], row["precision"]) for row in benched.document["rows"]] == [
        ("onnxruntime", "fp32"),
        ("openvino", "fp32"),
    ]
    for options, told in (
        (("--engines", "onnxruntime,telepathy"), "telepathy"),
        (("--precisions", "bf16"), "cannot compute in bf16"),
        (("--precisions", "fp64"), "fp64"),
    ):
        refused = nanocv("bench", "model", "--model", path, *options)
        assert refused.code == 2 and told in refused.err, refused.err


def test_eval_measures_the_same_on_every_engine(trained: TrainedRun, nanocv: Command) -> None:
    documents = {
        engine: nanocv("eval", "--model", trained.folder, "--data", trained.data, "--engine", engine, "--json").document
        for engine in ("onnx", "onnxruntime", "openvino")
    }
    assert [documents[name]["runtime"] for name in documents] == ["onnxruntime", "onnxruntime", "openvino"]
    assert [documents[name]["engine"] for name in documents] == list(documents)
    assert documents["onnx"]["metrics"] == documents["onnxruntime"]["metrics"]
    assert documents["openvino"]["metrics"]["top1"] == documents["onnx"]["metrics"]["top1"]
    refused = nanocv("eval", "--model", trained.folder, "--data", trained.data, "--precision", "bf16")
    assert refused.code == 2 and "--precision is of graphs" in refused.err
