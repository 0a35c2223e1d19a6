"""`nanocv bench` from the command line, against servers it starts and servers that run already."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nanocv_cli.bench import model as model_module
from nanocv_cli.engine.engine import Engine
from nanocv_cli.engine.runtimes import RunSettings
from nanocv_cli.errors import ExportError, RequestError
from tests.bench.fake_server import Behaviour, fake_server
from tests.conftest import Command, TrainedRun
from tests.engine.graphs import colour_card, write_graph

QUICK = ["--warmup-s", "0.1", "--window-s", "0.1", "--windows", "3"]


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_graph(tmp_path / "colours.onnx", colour_card(metrics={"top1": 0.9}))


@pytest.mark.slow(5)
def test_it_starts_a_server_sweeps_and_recommends(nanocv: Command, graph: Path, tmp_path: Path) -> None:
    image, kept = tmp_path / "front.png", tmp_path / "kept.json"
    options = ["--max-batch", "2", "--queue-delay-us", "0,200", "--instances", "1", *QUICK]
    outcome = nanocv(
        "bench", "server", "--model", graph, "--json", "--figure", image, "--save-baseline", kept, *options
    )
    assert outcome.code == 0, outcome.err
    rows = outcome.document["rows"]
    assert [(row["max_batch"], row["queue_delay_us"], row["instances"]) for row in rows] == [(2, 0, 1), (2, 200, 1)]
    for row in rows:
        assert row["concurrency"] == 4
        assert 0 < row["p50_us"] <= row["p90_us"] <= row["p95_us"] <= row["p99_us"]
        assert row["errors"] == 0
        assert row["throughput"] > 0
        assert isinstance(row["stable"], bool)
        assert 1 <= row["batch_size"] <= 2
    assert outcome.document["choice"]["row"] in (0, 1)
    assert Image.open(image).size[0] > 400
    compared = ["--compare", kept, "--tolerance", "1.0", "--figure", image]
    again = nanocv("bench", "server", "--model", graph, *compared, *options)
    assert "now/then" in again.out


@pytest.mark.slow(2)
def test_over_grpc(nanocv: Command, graph: Path) -> None:
    options = ["--max-batch", "1", "--queue-delay-us", "0", "--instances", "1", *QUICK]
    outcome = nanocv("bench", "server", "--model", graph, "--protocol", "grpc", *options)
    assert outcome.code == 0, outcome.err
    assert "<- use this" in outcome.out
    assert "protocol and client" in outcome.out


def test_a_running_server_is_measured_as_it_is(nanocv: Command) -> None:
    behaviour = Behaviour()
    with fake_server(behaviour) as address:
        outcome = nanocv("bench", "server", "--url", address, "--model", "fake", "--json", *QUICK)
    assert outcome.code == 0, outcome.err
    assert [(row["max_batch"], row["queue_delay_us"]) for row in outcome.document["rows"]] == [(8, 100)]
    assert behaviour.loads == []


@pytest.mark.slow(2)
def test_figures_of_other_inputs_are_not_compared(nanocv: Command, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    with fake_server(Behaviour()) as address:
        asked = ("bench", "server", "--url", address, "--model", "fake", *QUICK)
        assert nanocv(*asked, "--input", "zeros", "--save-baseline", kept).code == 0
        outcome = nanocv(*asked, "--compare", kept)
    assert outcome.code == 2 and "was measured with input zeros, this with random" in outcome.err


@pytest.mark.slow(4)
def test_a_regression_ends_with_exit_1(nanocv: Command, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    with fake_server(Behaviour(service_s=0.002)) as address:
        assert nanocv("bench", "server", "--url", address, "--model", "fake", "--save-baseline", kept, *QUICK).code == 0
        text = kept.read_text(encoding="utf-8")
    with fake_server(Behaviour(service_s=0.02)) as address:
        kept.write_text(text.replace(text.split('"engine": "')[1].split('"')[0], address), encoding="utf-8")
        outcome = nanocv("bench", "server", "--url", address, "--model", "fake", "--compare", kept, *QUICK)
    assert outcome.code == 1
    assert "WORSE" in outcome.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--protocol", "smtp"], "--protocol"),
        (["--engine", "torchserve"], "--engine"),
        (["--input", "ones"], "--input"),
        (["--max-batch", "0"], "from 1 on"),
        (["--max-batch", "two"], "whole numbers"),
        (["--queue-delay-us", "-1"], "from 0 on"),
        (["--shape", "images"], "--shape"),
        (["--grpc-url", "127.0.0.1:1"], "--url"),
        (["--url", "127.0.0.1:1", "--threads", "2"], "--threads"),
        (["--url", "127.0.0.1:1", "--protocol", "grpc"], "--grpc-url"),
        (["--url", "here"], "no address"),
        (["--model", "http://[::1]:8000/lenet"], "nanocv bench server --url [::1]:8000 --model lenet measures"),
    ],
)
def test_wrong_requests(nanocv: Command, options: list[str], words: str) -> None:
    outcome = nanocv("bench", "server", "--model", "lenet", *options)
    assert outcome.code == 2
    assert words in outcome.err


def test_model_in_process(nanocv: Command, graph: Path, tmp_path: Path) -> None:
    image = tmp_path / "costs.png"
    options = ["--batch-sizes", "1,3", "--threads", "1,2", "--rounds", "2", "--round-s", "0.01"]
    outcome = nanocv("bench", "model", "--model", graph, "--json", "--figure", image, *options)
    assert outcome.code == 0, outcome.err
    assert outcome.document["figure"] == str(image) and image.read_bytes().startswith(b"\x89PNG")
    rows = outcome.document["rows"]
    assert [(row["threads"], row["batch_size"]) for row in rows] == [(1, 1), (1, 3), (2, 1), (2, 3)]
    for row in rows:
        assert row["precision"] == "fp32"
        assert row["bytes"] == graph.stat().st_size
        assert row["metrics"] == {"top1": 0.9}
        assert 0 < row["p50_us"] <= row["p99_us"]
        assert row["throughput"] == pytest.approx(row["batch_size"] * 1e6 / row["p50_us"])
        assert row["runs"] >= 20
        assert row["drop"] == 0.0
    fastest = max(rows, key=lambda row: row["throughput"])
    assert rows[outcome.document["choice"]["row"]] == fastest
    assert "p99 us" in nanocv("bench", "model", "--model", graph, *options).out


def test_a_stored_precision_is_that_of_the_graph_beside_it(nanocv: Command, graph: Path) -> None:
    options = ("--batch-sizes", "1", "--threads", "1", "--rounds", "1", "--round-s", "0.01")
    asked = ("bench", "model", "--model", graph, "--precisions", "fp32,int8", *options)
    refused = nanocv(*asked)
    assert refused.code == 2 and f"no {graph.stem}-int8.onnx" in refused.err and "--precision int8" in refused.err
    beside = graph.with_name(f"{graph.stem}-int8.onnx")
    shutil.copyfile(graph, beside)
    rows = nanocv(*asked, "--json").document["rows"]
    assert [row["model"] for row in rows] == [str(graph), str(beside)]
    only = nanocv("bench", "model", "--model", graph, "--precisions", "int8", *options, "--json").document["rows"]
    assert [row["model"] for row in only] == [str(beside)]


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_a_stored_precision_is_where_export_writes_it(
    nanocv: Command, trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    def export_with_less(checkpoint: Path, path: Path, *_: Any) -> None:
        raise ExportError(f"would write {path}")

    monkeypatch.setattr("nanocv_cli.exporting.graph_file.export_with_less", export_with_less)
    run = shutil.copytree(trained.folder, tmp_path / "run")
    named, beside = run, run / "model-fp16.onnx"
    if target == "openvino":
        named, beside = run / "checkpoints" / "best.xml", run / "checkpoints" / "best-fp16.xml"
        named.touch()
    refused = nanocv("bench", "model", "--model", named, "--precisions", "fp16")
    assert refused.code == 2 and f"nanocv export {target} --model REF --precision fp16 --out {beside}" in refused.err
    exported = nanocv("export", target, "--model", run, "--precision", "fp16", "--data", trained.data)
    assert f"would write {beside}\n" in exported.err


def test_what_this_machine_cannot_compute_in_is_left_out(
    nanocv: Command, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = model_module.open_in_process

    def without_bf16(path: Path, settings: RunSettings, cache: Path | None = None) -> Engine:
        if settings.precision == "bf16":
            raise RequestError("this processor does not compute in bf16", "leave it out")
        return opened(path, settings, cache)

    monkeypatch.setattr(model_module, "open_in_process", without_bf16)
    options = ("--engines", "onnxruntime,openvino", "--batch-sizes", "1", "--threads", "1", "--rounds", "1")
    some = nanocv("bench", "model", "--model", graph, "--precisions", "fp32,bf16", *options, "--round-s", "0.01")
    assert some.code == 0 and "openvino bf16 is left out: this processor does not compute in bf16" in some.err
    none = nanocv("bench", "model", "--model", graph, "--precisions", "bf16", *options, "--round-s", "0.01")
    assert none.code == 2 and "does not compute in bf16" in none.err


def test_a_served_model_is_timed_by_its_server(nanocv: Command, project: Path) -> None:
    refused = nanocv("bench", "model", "--model", "http://127.0.0.1:8000/lenet")
    assert refused.code == 2
    assert refused.err == (
        "error: http://127.0.0.1:8000/lenet is served: there is no graph here to run\n"
        "  try: nanocv bench server --url 127.0.0.1:8000 --model lenet measures the server that runs there\n"
    )


def test_model_with_wrong_sizes(nanocv: Command, graph: Path) -> None:
    assert nanocv("bench", "model", "--model", graph, "--batch-sizes", "0").code == 2


def test_a_result_that_cannot_be_written_is_known_before_the_measurement(nanocv: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    behaviour = Behaviour()
    with fake_server(behaviour) as address:
        target = tmp_path / "file" / "kept.json"
        outcome = nanocv("bench", "server", "--url", address, "--model", "fake", "--save-baseline", target, *QUICK)
    assert outcome.code == 1
    assert "cannot write" in outcome.err
    assert behaviour.asked == 0
