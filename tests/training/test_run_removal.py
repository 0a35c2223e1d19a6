"""Runs removed by name, or pruned to the newest and the best: never one that is written, never half of one."""

import shutil
from pathlib import Path

import pytest

from nanocv_cli.errors import RequestError, StorageError, TrainingError
from nanocv_cli.files import part_file
from nanocv_cli.training.run_directory import RunDirectory
from nanocv_cli.training.run_list import list_runs
from nanocv_cli.training.run_removal import decide_removal, find_runs, remove_run
from tests.training.run_folders import write_begun_run, write_run


def kept(root: Path, with_interrupted: bool = False) -> dict[str, str]:
    """Names of the runs that stay, with the reason."""
    decisions = decide_removal(list_runs(root), root, with_interrupted)
    return {decision.run.name: decision.why for decision in decisions if decision.kept}


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "runs").iterdir())


def test_newest_and_best_stay_of_each_model_and_set(tmp_path: Path) -> None:
    for name, score, age in (("worst", 0.5, 4), ("best", 0.9, 3), ("good", 0.8, 2), ("newest", 0.6, 1)):
        write_run(tmp_path, name, score, age=age)
    write_run(tmp_path, "photos", 0.4, age=5, data="photos")
    write_run(tmp_path, "other", 0.3, age=6, model="nanores")
    assert kept(tmp_path) == {
        "newest": "newest of lenet on flowers",
        "best": "best of lenet on flowers",
        "photos": "newest and best of lenet on photos",
        "other": "newest and best of nanores on flowers",
    }


def test_a_generator_has_no_best_but_the_newest(tmp_path: Path) -> None:
    for name, score, age in (("highest", 0.9, 2), ("newest", 0.6, 1)):
        write_run(tmp_path, name, score, age=age, task="generation", metric="coverage")
    assert kept(tmp_path) == {"newest": "newest and best of lenet on flowers"}


def test_of_equal_scores_the_first_is_the_best(tmp_path: Path) -> None:
    for name, age in (("first", 3), ("second", 2), ("third", 1)):
        write_run(tmp_path, name, 0.5, age=age)
    assert sorted(kept(tmp_path)) == ["first", "third"]


def test_what_cannot_be_ranked_stays(tmp_path: Path) -> None:
    write_run(tmp_path, "unscored", None, age=3)
    write_run(tmp_path, "unknown", 0.5, age=2, task="telepathy")
    write_run(tmp_path, "newest", 0.5, age=1)
    assert {name: kept(tmp_path)[name] for name in ("unscored", "unknown")} == {
        "unscored": "cannot be ranked",
        "unknown": "cannot be ranked",
    }


def test_interrupted_runs_go_only_if_asked_for_and_a_living_one_never(tmp_path: Path) -> None:
    write_begun_run(tmp_path, "stopped")
    busy = write_begun_run(tmp_path, "busy")
    with RunDirectory(busy) as directory:
        directory.lock()
        assert sorted(kept(tmp_path)) == ["busy", "stopped"]
        assert kept(tmp_path, with_interrupted=True) == {"busy": f"{busy} is being written; it stays"}


def test_a_run_goes_whole_and_alone(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "demo/doomed", 0.5)
    (folder / "checkpoints" / "deep").mkdir(parents=True)
    (folder / "checkpoints" / "link").symlink_to(tmp_path)
    write_run(tmp_path, "other", 0.5)
    (run,) = find_runs(["demo/doomed"], tmp_path)
    remove_run(run, tmp_path)
    assert list((tmp_path / "runs" / "demo").iterdir()) == []
    assert names(tmp_path) == ["demo", "other"]


def test_names_and_folders_name_a_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_run(tmp_path, "a/b", 0.5)
    write_run(tmp_path, "c", 0.5)
    runs = find_runs(["a/b", "runs/a/b/", str(folder), "runs/../runs/c"], tmp_path)
    assert [run.name for run in runs] == ["a/b", "c"]


@pytest.mark.parametrize("name", ["lenet", "a", "runs", ".", "..", "outside", "../outside", "c/checkpoints", "/"])
def test_what_is_no_run_below_runs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path, "a/b", 0.5)
    (write_run(tmp_path, "c", 0.5) / "checkpoints").mkdir()
    shutil.copytree(tmp_path / "runs" / "c", tmp_path / "outside")
    with pytest.raises(RequestError, match="no run"):
        find_runs(["c", name], tmp_path)
    assert (tmp_path / "outside" / "summary.json").exists()


def test_what_is_written_stays(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "busy", 0.5)
    (run,) = list_runs(tmp_path)
    with RunDirectory(folder) as directory:
        directory.lock()
        for attempt in (lambda: find_runs(["busy"], tmp_path), lambda: remove_run(run, tmp_path)):
            with pytest.raises(TrainingError, match="busy is being written"):
                attempt()
    with part_file(folder, ".onnx") as exported:  # a graph on its way
        for attempt in (lambda: find_runs(["busy"], tmp_path), lambda: remove_run(run, tmp_path)):
            with pytest.raises(TrainingError, match="busy is being written"):
                attempt()
        assert exported.exists()
    remove_run(run, tmp_path)
    assert names(tmp_path) == []


def test_a_run_that_is_finished_meanwhile_stays(tmp_path: Path) -> None:
    folder = write_begun_run(tmp_path, "stopped")
    (run,) = list_runs(tmp_path)
    (folder / "summary.json").write_text('{"model": "lenet"}')
    with pytest.raises(RequestError, match="has been finished meanwhile"):
        remove_run(run, tmp_path)
    assert names(tmp_path) == ["stopped"]


def test_a_run_with_another_inside_or_behind_a_link_stays(tmp_path: Path) -> None:
    write_run(tmp_path, "outer", 0.5)
    write_run(tmp_path, "outer/inner", 0.5)
    elsewhere = write_run(tmp_path / "elsewhere", "far", 0.5)
    (tmp_path / "runs" / "link").symlink_to(elsewhere)
    with pytest.raises(RequestError, match="holds another run"):
        find_runs(["outer"], tmp_path)
    with pytest.raises(RequestError, match="lies behind a link"):
        find_runs(["link"], tmp_path)
    assert "lies behind a link" in kept(tmp_path)["link"]
    assert (elsewhere / "summary.json").exists()


def test_runs_may_lie_on_another_disk(tmp_path: Path) -> None:
    """`runs` itself may be a link."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    write_run(tmp_path, "mine", 0.5)
    (run,) = find_runs(["mine"], tmp_path)
    remove_run(run, tmp_path)
    assert list((tmp_path / "disk").iterdir()) == []


def test_what_cannot_be_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, "mine", 0.5)
    (run,) = list_runs(tmp_path)

    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StorageError, match=r"cannot remove .*mine: Permission denied"):
        remove_run(run, tmp_path)
    assert names(tmp_path) == ["mine"]
