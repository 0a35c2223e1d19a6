"""What `--model REF` finds, and what it says when it finds nothing.

Weights that are not here come from the repository's own remote, checked, and never over a network.
"""

import hashlib
import json
import os
from pathlib import Path

import pytest

from nanocv_cli.engine.reference import default_model, fetch_weights, find_checkpoint, find_graph, finished_runs
from nanocv_cli.errors import DataError, ModelError, RequestError


def make_run(root: Path, name: str, model: str, age: float, graph: bool = True, finished: bool = True) -> Path:
    """A run folder whose summary is `age` seconds old."""
    folder = root / "runs" / name
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").touch()
    (folder / "checkpoints" / "best.safetensors").touch()
    if graph:
        (folder / "model.onnx").touch()
    if finished:
        (folder / "summary.json").write_text(json.dumps({"model": model}))
        os.utime(folder / "summary.json", (1e9 - age, 1e9 - age))
    return folder


def make_weights(root: Path, name: str) -> Path:
    (root / "weights").mkdir(exist_ok=True)
    for suffix in (".onnx", ".safetensors"):
        (root / "weights" / f"{name}{suffix}").touch()
    return root / "weights" / f"{name}.onnx"


def test_a_name_is_the_newest_finished_run_of_that_model(tmp_path: Path) -> None:
    make_run(tmp_path, "z-old", "lenet", age=100)
    newest = make_run(tmp_path, "a-new", "lenet", age=50)
    make_run(tmp_path, "unfinished", "lenet", age=0, finished=False)
    make_run(tmp_path, "other", "resnet18", age=0)
    make_weights(tmp_path, "lenet-flowers")
    assert find_graph("lenet", tmp_path) == newest / "model.onnx"
    assert find_checkpoint("lenet", tmp_path) == newest / "checkpoints" / "best.safetensors"
    assert [run.folder.name for run in finished_runs(tmp_path)] == ["other", "a-new", "z-old"]


def test_a_run_that_lost_its_graph_gives_way_to_an_older_one(tmp_path: Path) -> None:
    make_run(tmp_path, "new", "lenet", age=0, graph=False)
    old = make_run(tmp_path, "old", "lenet", age=9)
    assert find_graph("lenet", tmp_path) == old / "model.onnx"


def test_a_finished_run_counts_at_any_depth_and_links_do_not_lead_in_circles(tmp_path: Path) -> None:
    deep = make_run(tmp_path, "demo/first/lenet", "lenet", age=0)
    make_run(tmp_path, "demo/first/lenet/checkpoints/inner", "lenet", age=-9)  # part of a run, no run
    (tmp_path / "runs" / "demo" / "circle").symlink_to(tmp_path / "runs")
    assert find_graph("lenet", tmp_path) == deep / "model.onnx"
    assert [run.folder for run in finished_runs(tmp_path)] == [deep]


@pytest.mark.parametrize("ref", ["lenet", "lenet-flowers"])
def test_pulled_weights_answer_to_model_and_to_their_own_name(tmp_path: Path, ref: str) -> None:
    graph = make_weights(tmp_path, "lenet-flowers")
    make_weights(tmp_path, "lenet+more")  # sorts before it
    assert find_graph(ref, tmp_path) == graph
    assert find_checkpoint(ref, tmp_path) == graph.with_suffix(".safetensors")


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
def test_a_graph_in_less_precision_answers_to_its_own_name_alone(tmp_path: Path, precision: str) -> None:
    less = make_weights(tmp_path, f"lenet-flowers-{precision}")
    with pytest.raises(RequestError):
        find_graph("lenet", tmp_path)
    graph = make_weights(tmp_path, "lenet-flowers")
    assert find_graph("lenet", tmp_path) == find_graph("lenet-flowers", tmp_path) == graph
    assert find_graph(less.stem, tmp_path) == less


def test_run_folders_by_path_and_by_name(tmp_path: Path) -> None:
    run = make_run(tmp_path, "lenet-1", "lenet", age=0, finished=False)
    assert find_graph(str(run), tmp_path) == run / "model.onnx"
    assert find_graph("lenet-1", tmp_path) == run / "model.onnx"
    assert find_checkpoint(str(run), tmp_path) == run / "checkpoints" / "best.safetensors"


def test_a_folder_that_is_no_run_does_not_hide_a_model_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lenet").mkdir()
    graph = make_weights(tmp_path, "lenet")
    assert find_graph("lenet", tmp_path) == graph


def test_a_checkpoint_stands_for_the_graph_made_from_it(tmp_path: Path) -> None:
    graph = make_weights(tmp_path, "lenet-flowers")
    assert find_graph(str(graph.with_suffix(".safetensors")), tmp_path) == graph
    run = make_run(tmp_path, "r", "lenet", age=0)
    assert find_graph(str(run / "checkpoints" / "best.safetensors"), tmp_path) == run / "model.onnx"
    (run / "checkpoints" / "last.safetensors").touch()  # the graph was made from the best, not from the last
    with pytest.raises(ModelError) as caught:
        find_graph(str(run / "checkpoints" / "last.safetensors"), tmp_path)
    assert caught.value.hint.startswith("nanocv export onnx --model ")


@pytest.mark.parametrize("by_name", [True, False])
def test_a_run_without_a_graph_says_how_to_make_one(tmp_path: Path, by_name: bool) -> None:
    run = make_run(tmp_path, "r", "lenet", age=0, graph=False)
    ref = "lenet" if by_name else str(run)
    with pytest.raises(ModelError, match="no graph was exported") as caught:
        find_graph(ref, tmp_path)
    assert caught.value.hint == f"nanocv export onnx --model {ref}"


def test_an_unfinished_run_says_how_to_go_on(tmp_path: Path) -> None:
    run = make_run(tmp_path, "r", "lenet", age=0, graph=False, finished=False)
    (run / "checkpoints" / "best.safetensors").unlink()
    with pytest.raises(RequestError, match="not finished") as caught:
        find_graph(str(run), tmp_path)
    assert caught.value.hint == f"nanocv train --resume {run}"


@pytest.mark.parametrize(
    ("ref", "message", "hint"),
    [
        (
            "lenet",
            "no trained model 'lenet'",
            "nanocv train --model lenet trains one; pretrained weights",
        ),
        ("resnet81", "no trained model", "did you mean resnet18?"),
        ("nanodet", "no trained model", "nanocv train --model nanospot trains one"),
        ("none.onnx", "no file none.onnx", "model's name"),
        ("none.safetensors", "no file none.safetensors", "model's name"),
        ("runs/none", "no run folder runs/none", "check the path"),
        ("/none", "no run folder /none", "check the path"),
        ("**", "no trained model", "nanocv train"),
    ],
)
def test_what_is_not_there_is_a_wrong_request(tmp_path: Path, ref: str, message: str, hint: str) -> None:
    make_run(tmp_path, "r", "resnet18", age=0)
    with pytest.raises(RequestError) as caught:
        find_graph(ref, tmp_path)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_files_of_the_wrong_kind(tmp_path: Path) -> None:
    (tmp_path / "model.pt").touch()
    with pytest.raises(RequestError, match="no model file"):
        find_graph(str(tmp_path / "model.pt"), tmp_path)
    with pytest.raises(RequestError, match="needs its checkpoint"):
        find_checkpoint("model.onnx", tmp_path)


@pytest.mark.parametrize("summary", ["", "[]", "null", '{"model": 3}', '{"run": "r"}', "\xff"])
def test_summaries_that_are_not_ours_are_passed_over(tmp_path: Path, summary: str) -> None:
    make_run(tmp_path, "strange", "lenet", age=0)
    (tmp_path / "runs" / "strange" / "summary.json").write_bytes(summary.encode("latin-1"))
    ours = make_run(tmp_path, "ours", "lenet", age=9)
    assert [run.folder for run in finished_runs(tmp_path)] == [ours]


def test_the_default_is_the_projects_else_the_shipped_one(tmp_path: Path) -> None:
    assert default_model(tmp_path) == "lenet"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "defaults.yaml").write_text("data: mine\nmodel: tiny  # small\n")
    assert default_model(tmp_path) == "tiny"
    graph = make_weights(tmp_path, "tiny")
    assert find_graph(None, tmp_path) == graph


def test_defaults_that_are_no_yaml(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "defaults.yaml").write_text("model: [")
    with pytest.raises(RequestError, match=r"defaults\.yaml cannot be read"):
        default_model(tmp_path)


CONTENT = b"a graph"
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
LOCK = """\
schema: '2.0'
stages:
  lenet-flowers:
    cmd: nanocv train
    outs:
    - path: weights/lenet-flowers.onnx
      hash: md5
      md5: {md5}
      size: {size}
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone whose remote is a folder of its own, as `.dvc/config` has it."""
    (tmp_path / "dvc.lock").write_text(LOCK.format(md5=MD5, size=len(CONTENT)))
    held = tmp_path / ".dvc" / "storage" / "files" / "md5" / MD5[:2]
    held.mkdir(parents=True)
    (held / MD5[2:]).write_bytes(CONTENT)
    (tmp_path / ".dvc" / "config").write_text(
        "[core]\n    remote = repository\n['remote \"repository\"']\n    url = storage\n"
    )
    return tmp_path


@pytest.mark.parametrize("ref", ["lenet", "lenet-flowers"])
def test_a_name_without_a_run_fetches_its_weights_and_says_so(
    clone: Path, ref: str, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = find_graph(ref, clone)
    assert graph == clone / "weights" / "lenet-flowers.onnx"
    assert graph.read_bytes() == CONTENT
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert "weights/lenet-flowers.onnx" in told.err
    find_graph(ref, clone)
    assert capsys.readouterr().err == ""


def test_names_that_no_stage_makes_are_unknown(clone: Path) -> None:
    assert fetch_weights("resnet18", clone, ".onnx") is None
    with pytest.raises(RequestError, match="no trained model 'lenet'"):
        find_checkpoint("lenet", clone)


def test_a_remote_behind_a_network_is_named_and_not_asked(clone: Path) -> None:
    (clone / ".dvc" / "config.local").write_text(
        "[core]\n    remote = mine\n['remote \"mine\"']\n    url = s3://bucket/path\n"
    )
    with pytest.raises(RequestError, match=r"remote mine \(s3://bucket/path\)") as caught:
        find_graph("lenet", clone)
    assert caught.value.hint == "nanocv data pull lenet-flowers"
    assert not (clone / "weights").exists()


def test_a_remote_without_the_file_leads_to_data_pull(clone: Path) -> None:
    (clone / ".dvc" / "storage" / "files" / "md5" / MD5[:2] / MD5[2:]).unlink()
    with pytest.raises(RequestError, match="does not hold") as caught:
        find_graph("lenet", clone)
    assert caught.value.hint == "nanocv data pull lenet-flowers"


@pytest.mark.parametrize("content", [b"A graph", b"a graph and more"])
def test_a_damaged_file_of_the_remote_is_refused(clone: Path, content: bytes) -> None:
    (clone / ".dvc" / "storage" / "files" / "md5" / MD5[:2] / MD5[2:]).write_bytes(content)
    with pytest.raises(DataError):
        find_graph("lenet", clone)
    assert not (clone / "weights" / "lenet-flowers.onnx").exists()


@pytest.mark.parametrize("md5", ["../../../etc/passwd", "00", f"{MD5}.dir"])
def test_a_hash_that_is_none_leads_nowhere(clone: Path, md5: str) -> None:
    (clone / "dvc.lock").write_text(LOCK.format(md5=md5, size=7))
    with pytest.raises(RequestError, match="does not hold"):
        find_graph("lenet", clone)


def test_a_config_of_dvc_that_is_none(clone: Path) -> None:
    (clone / ".dvc" / "config").write_text("no section")
    with pytest.raises(DataError, match="config of DVC"):
        find_graph("lenet", clone)
