"""`nanocv runs` as people and programs use it; what it decides is tested with `training/`."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Command
from tests.training.run_folders import write_begun_run, write_run


@pytest.fixture
def three(project: Path) -> Path:
    """A project with the newest and the best run of a model, and one that is neither."""
    for name, score, age in (("best", 0.9, 3), ("needless", 0.5, 2), ("newest", 0.8125, 1)):
        write_run(project, name, score, age=age)
    return project


def left(project: Path) -> list[str]:
    return sorted(path.name for path in (project / "runs").iterdir())


def test_the_list_is_a_table_and_a_document(nanocv: Command, three: Path) -> None:
    write_begun_run(three, "stopped")
    header, *rows = nanocv("runs").out.splitlines()
    assert " ".join(header.split()) == "run state model task data from score epochs time size when"
    assert [row.split()[:5] for row in rows] == [
        ["stopped", "interrupted", "lenet", "classification", "flowers"],
        *([name, "finished", "lenet", "classification", "flowers"] for name in ("newest", "needless", "best")),
    ]
    assert "top1 81.25% (test)  5/5     1 min 02 s  0.0 MB" in rows[1]
    document = nanocv("runs", "--json").document["runs"]
    assert document[1] | {"bytes": 0, "path": ""} == {
        "run": "newest", "path": "", "state": "finished", "model": "lenet", "task": "classification",
        "data": "flowers", "start": None, "metric": "top1", "score": 0.8125, "split": "test", "epochs": 5,
        "epochs_asked": 5, "seconds": 61.5, "bytes": 0, "when": "2001-09-08T01:46:40+00:00",
    }  # fmt: skip


def test_without_runs_it_says_where_they_would_be(nanocv: Command, project: Path) -> None:
    listed = nanocv("runs")
    assert (listed.code, listed.out, listed.err) == (0, "", f"no runs in {project.resolve() / 'runs'}\n")
    pruned = nanocv("runs", "prune", "--json")
    assert (pruned.code, pruned.document) == (0, {"removed": [], "kept": [], "dry_run": False})


@pytest.mark.parametrize("arguments", [["rm", "best", "newest"], ["prune"]])
def test_nothing_goes_unless_somebody_agrees(nanocv: Command, three: Path, arguments: list[str]) -> None:
    for more in ([], ["--json"]):
        refused = nanocv("runs", *arguments, *more)
        assert refused.code == 2
        assert "nothing was removed" in refused.err and "add --yes" in refused.err
    dry = nanocv("runs", *arguments, "--dry-run", "--json")
    assert dry.code == 0 and dry.document["dry_run"] is True
    assert left(three) == ["best", "needless", "newest"]
    done = nanocv("runs", *arguments, "--yes", "--json")
    assert done.code == 0, done.err
    gone = [run["run"] for run in dry.document["removed"]]
    assert [run["run"] for run in done.document["removed"]] == gone
    assert left(three) == sorted({"best", "needless", "newest"} - set(gone))


def test_prune_says_why_each_run_stays_or_goes(nanocv: Command, three: Path) -> None:
    rows = nanocv("runs", "prune", "--dry-run").out.splitlines()
    assert [" ".join(row.split()) for row in rows] == [
        "stays newest top1 81.25% (test) newest of lenet on flowers",
        "would go needless top1 50.00% (test) neither newest nor best of lenet on flowers",
        "stays best top1 90.00% (test) best of lenet on flowers",
    ]


def test_one_wrong_name_keeps_all(nanocv: Command, three: Path) -> None:
    refused = nanocv("runs", "rm", "best", "newst", "--yes")
    assert (refused.code, refused.err) == (2, "error: no run 'newst'\n  try: did you mean newest?\n")
    assert left(three) == ["best", "needless", "newest"]


def test_an_option_before_the_command_is_not_lost(nanocv: Command, three: Path) -> None:
    refused = nanocv("runs", "--json", "rm", "best")
    assert (refused.code, refused.document["error"]["kind"]) == (2, "request")
    assert left(three) == ["best", "needless", "newest"]


@pytest.mark.parametrize(("answer", "gone"), [("y\n", ["needless"]), ("\n", []), ("no\n", [])])
def test_on_a_terminal_it_asks(three: Path, answer: str, gone: list[str]) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode())
    done = subprocess.run(
        [sys.executable, "-m", "nanocv_cli.app", "runs", "prune"],
        cwd=three,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=60,
        check=False,
    )
    told = os.read(ours, 4096).decode()
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 0, told
    assert "remove 1 run, 0.0 MB? [y/N]" in told
    assert left(three) == sorted({"best", "needless", "newest"} - set(gone))
