"""What a list of runs says of each: finished, interrupted, under way, of an earlier nanocv, or damaged."""

from pathlib import Path

import pytest

from nanocv_cli.files import part_folder
from nanocv_cli.training.run_directory import RunDirectory
from nanocv_cli.training.run_list import list_runs, read_run
from nanocv_cli.training.state import TrainingState
from tests.conftest import TrainedRun
from tests.training.run_folders import write_begun_run, write_interrupted_run, write_run


def test_runs_of_any_depth_come_newest_first(tmp_path: Path) -> None:
    write_run(tmp_path, "old", 0.5, age=9)
    write_run(tmp_path, "demo/first/deep", 0.75, age=2)
    write_begun_run(tmp_path, "begun")
    (tmp_path / "runs" / "circle").symlink_to(tmp_path / "runs")
    (tmp_path / "runs" / "no-run").mkdir()
    assert [(run.name, run.state) for run in list_runs(tmp_path)] == [
        ("begun", "interrupted"),
        ("demo/first/deep", "finished"),
        ("old", "finished"),
    ]


def test_what_is_being_removed_is_no_run(tmp_path: Path) -> None:
    write_run(tmp_path, "run", 0.5)
    with part_folder(tmp_path / "runs") as doomed:
        (tmp_path / "runs" / "run").rename(doomed / "run")
        assert list_runs(tmp_path) == []


def test_a_finished_run_says_it_all(trained: TrainedRun, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(trained.folder)
    (run,) = list_runs(tmp_path)
    assert (run.name, run.state, run.model, run.task) == ("mine", "finished", "lenet", "classification")
    assert (run.data, run.metric, run.score) == ("colours", "top1", trained.summary["metrics"]["top1"])
    assert (run.split, run.epochs, run.epochs_asked, run.seconds) == ("test", 6, 6, trained.summary["seconds"])
    assert run.bytes > trained.graph.stat().st_size + trained.checkpoint.stat().st_size
    assert run.when == (trained.folder / "summary.json").stat().st_mtime


@pytest.mark.parametrize(
    ("task", "metric"),
    [("classification", "top1"), ("detection", "map"), ("segmentation", "miou"), ("generation", "coverage")],
)
def test_a_summary_that_names_no_metric_is_read_by_its_task(tmp_path: Path, task: str, metric: str) -> None:
    run = read_run(write_run(tmp_path, "former", 0.25, task=task, metric=metric, is_told=False), tmp_path)
    assert (run.metric, run.score) == (metric, 0.25)


def test_the_metric_that_a_summary_names_counts(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, "strange", 0.25, task="telepathy", metric="guesses"), tmp_path)
    assert (run.task, run.metric, run.score, run.law) == ("telepathy", "guesses", 0.25, None)


def test_an_interrupted_run_tells_how_far_it_came(tmp_path: Path) -> None:
    run = read_run(write_interrupted_run(tmp_path, "stopped", TrainingState(3, seconds=7.5, best=0.5)), tmp_path)
    assert (run.state, run.epochs, run.epochs_asked, run.seconds) == ("interrupted", 3, 5, 7.5)
    assert (run.metric, run.score, run.split) == ("top1", 0.5, "val")
    begun = read_run(write_begun_run(tmp_path, "begun"), tmp_path)
    assert (begun.state, begun.epochs, begun.score, begun.split) == ("interrupted", 0, None, None)


def test_a_run_is_under_way_while_its_folder_is_locked(tmp_path: Path) -> None:
    folder = write_begun_run(tmp_path, "busy")
    with RunDirectory(folder) as directory:
        directory.lock()
        assert read_run(folder, tmp_path).state == "running"
    assert read_run(folder, tmp_path).state == "interrupted"


@pytest.mark.parametrize("summary", ["", "[]", '{"metrics": 7, "epochs": -1, "seconds": "x", "model": "a\\nb"}'])
def test_what_is_damaged_is_not_known(tmp_path: Path, summary: str) -> None:
    folder = write_run(tmp_path, "damaged", 0.5)
    (folder / "summary.json").write_text(summary)
    (folder / "config.yaml").write_text("train: [")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.safetensors").write_bytes(b"no weights")
    run = read_run(folder, tmp_path)
    assert (run.name, run.state) == ("damaged", "finished" if summary.startswith("{") else "interrupted")
    assert (run.model, run.task, run.data, run.metric, run.score, run.epochs_asked) == (None,) * 6
