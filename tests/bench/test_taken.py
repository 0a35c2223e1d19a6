"""What a bench has named is served as it was measured, or refused in one line."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from nanocv_cli.bench.taken import read_choice, sha256_of
from nanocv_cli.errors import RequestError
from nanocv_cli.serving.repository.pbtxt import read_config
from tests.bench.rows import model_row
from tests.conftest import Command
from tests.engine.graphs import write_graph


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_graph(tmp_path / "graph.onnx")


def kept(path: Path, *rows: dict[str, Any], row: Any = 0, **more: Any) -> Path:
    """A result of a bench as a file."""
    path.write_text(json.dumps({"rows": rows, "choice": {"row": row, "rule": "the fastest"}, **more}))
    return path


def row_of(graph: Path, **changes: Any) -> dict[str, Any]:
    return model_row(model=str(graph), sha256=sha256_of(graph), **changes).to_json()


def test_a_choice_of_bench_model_is_a_graph_and_how_to_run_it(graph: Path, tmp_path: Path) -> None:
    file = kept(tmp_path / "bench.json", row_of(graph), row_of(graph, precision="int8", threads=2, batch_size=8), row=1)
    taken = read_choice(file)
    assert (taken.graph, taken.rule) == (graph, "the fastest")
    assert taken.settings == {
        "backend": "openvino",
        "precision": "fp32",  # the file is int8
        "kind": "cpu",
        "threads": 2,
        "max_batch": 8,
    }
    on_gpu = read_choice(kept(file, row_of(graph, engine="onnxruntime", device="cuda:1")))
    assert (on_gpu.settings["backend"], on_gpu.settings["kind"]) == ("onnxruntime", "gpu")
    assert read_choice(kept(file, row_of(graph, precision="bf16"))).settings["precision"] == "bf16"


def test_a_choice_of_bench_server_is_its_batching(graph: Path, tmp_path: Path) -> None:
    row = {"max_batch": 4, "queue_delay_us": 500, "instances": 2}
    served = {"graph": str(graph), "sha256": sha256_of(graph), "backend": "onnxruntime", "precision": "fp32"}
    own = read_choice(kept(tmp_path / "own.json", row, served={**served, "threads": 1}))
    assert (own.graph, own.settings) == (graph, {**row, "backend": "onnxruntime", "precision": "fp32", "threads": 1})
    foreign = read_choice(kept(tmp_path / "foreign.json", {**row, "instances": None}, served=None))
    assert (foreign.graph, foreign.settings) == (None, {"max_batch": 4, "queue_delay_us": 500})


def test_what_is_no_result_or_names_nothing_is_refused(graph: Path, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    good = row_of(graph)
    for content in ("", "[]", "{}", json.dumps({"rows": [], "choice": {"row": 0, "rule": ""}}), "[" * 9999):
        file.write_text(content)
        with pytest.raises(RequestError, match="is no result of a load test"):
            read_choice(file)
    for bad in ({**good, "engine": "telepathy"}, {**good, "device": "coreml"}, {"model": str(graph)}):
        with pytest.raises(RequestError, match="is no result of a load test"):
            read_choice(kept(file, bad))
    for number in (7, -1, True, "0"):
        with pytest.raises(RequestError, match="is no result of a load test"):
            read_choice(kept(file, good, row=number))
    with pytest.raises(RequestError, match="is no result of a load test"):
        read_choice(tmp_path / "missing.json")
    with pytest.raises(RequestError, match="names nothing to use: the fastest"):
        read_choice(kept(file, good, row=None))


def test_a_graph_that_is_gone_or_another_now_is_refused(graph: Path, tmp_path: Path) -> None:
    file = kept(tmp_path / "bench.json", row_of(graph))
    write_graph(graph, strength=0.2)
    with pytest.raises(RequestError, match="was measured with another"):
        read_choice(file)
    graph.unlink()
    with pytest.raises(RequestError, match="cannot be read: No such file"):
        read_choice(file)


def test_a_path_that_is_no_file_is_refused_and_not_waited_for(graph: Path, tmp_path: Path) -> None:
    row = row_of(graph)
    os.mkfifo(tmp_path / "pipe.onnx")
    for name, told in ((str(tmp_path / "pipe.onnx"), "not a regular file"), ("a\0b.onnx", "null byte")):
        with pytest.raises(RequestError, match=f"cannot be read: .*{told}"):
            read_choice(kept(tmp_path / "bench.json", {**row, "model": name}))


def test_what_bench_model_printed_is_served(nanocv: Command, project: Path) -> None:
    graph = write_graph(project / "model.onnx")
    done = nanocv("bench", "model", "--model", graph, "--engines", "openvino", "--batch-sizes", "2", "--threads", "1",
                  "--rounds", "1", "--round-s", "0.01", "--json")  # fmt: skip
    assert done.code == 0, done.err
    (project / "bench.json").write_text(done.out)
    written = nanocv("serve", "config", "--from-bench", "bench.json", "--instances", "2", "--json")
    assert written.code == 0, written.err
    assert "backend openvino" in written.err
    config = read_config(Path(written.document["config"]))
    assert (config.backend, config.max_batch_size, config.instance_group[0].count) == ("openvino", 2, 2)
    assert config.parameters["INFERENCE_NUM_THREADS"].string_value == "2"
    for options, told in (
        (("--model", graph), "leave --model out"),
        (("--kind", "gpu"), "write another value there"),
        (("--backend", "python", "--precision", "bf16"), "expected fp32: only backend openvino takes another"),
    ):
        refused = nanocv("serve", "config", "--from-bench", "bench.json", *options)
        assert refused.code == 2 and told in refused.err, refused.err
