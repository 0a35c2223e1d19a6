"""A run's folder: locked while it is written, gone where nothing was learnt, never at the cost of others' files."""

from pathlib import Path

import pytest

from nanocv_cli.errors import RequestError, TrainingError
from nanocv_cli.files import PREFIX, write_text
from nanocv_cli.training.run_directory import RunDirectory
from tests.conftest import TINY, Command

SETS = [word for pair in TINY for word in ("--set", pair)]


def entries(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.slow(6)
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--set", "model.input_size=33"], 2),
        (["--set", "model.architecture=lennet"], 2),
        (["--set", "model.task=detection"], 2),
        (["--set", "model.source=torchvision"], 2),
        (["--set", "train.precision=fp16", "--device", "cpu"], 2),
        (["--set", "model.name=a\nb"], 2),
        (["--model", "nanoflow", "--set", "model.source=torchvision"], 2),
    ],
)
def test_the_corrected_command_works_where_the_wrong_one_was_refused(
    nanocv: Command, project: Path, tiny_set: Path, arguments: list[str], code: int
) -> None:
    refused = nanocv("train", "--data", tiny_set, *SETS, "--out", "runs/first", *arguments)
    assert refused.code == code, refused.err
    assert [name for name in entries(project) if not name.startswith(".cache")] == []
    (project / "mine").mkdir()
    refused = nanocv("train", "--data", tiny_set, *SETS, "--out", "mine", *arguments)
    assert refused.code == code
    assert [name for name in entries(project) if not name.startswith(".cache")] == ["mine"]


def test_a_run_that_failed_before_it_learnt_leaves_nothing_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(KeyError), RunDirectory.create(tmp_path, tmp_path / "a" / "run", "m", "d") as run:
        write_text(run.config, "x")
        write_text(run.identity, "x")
        for folder in run.recorded:
            (folder / "inner").mkdir(parents=True)
        raise KeyError
    assert entries(tmp_path) == []


def test_what_somebody_put_there_meanwhile_stays(tmp_path: Path) -> None:
    with pytest.raises(KeyError), RunDirectory.create(tmp_path, tmp_path / "run", "m", "d") as run:
        write_text(run.path / "notes.txt", "mine")
        raise KeyError
    assert entries(tmp_path) == ["run", "run/notes.txt"]


def test_what_was_learnt_stays(tmp_path: Path) -> None:
    with pytest.raises(KeyError), RunDirectory.create(tmp_path, tmp_path / "run", "m", "d") as run:
        write_text(run.config, "x")
        write_text(run.last, "weights")
        raise KeyError
    assert {"run/config.yaml", "run/checkpoints/last.safetensors"} <= set(entries(tmp_path))


def test_a_folder_that_is_refused_is_as_before(tmp_path: Path) -> None:
    write_text(tmp_path / "full" / "notes.txt", "mine")
    before = entries(tmp_path)
    with pytest.raises(RequestError, match="is not empty"):
        RunDirectory.create(tmp_path, tmp_path / "full", "m", "d")
    assert entries(tmp_path) == before
    with pytest.raises(RequestError, match="is a file"):
        RunDirectory.create(tmp_path, tmp_path / "full" / "notes.txt", "m", "d")


def test_one_run_has_a_folder_at_a_time(tmp_path: Path) -> None:
    first = RunDirectory.create(tmp_path, tmp_path / "run", "m", "d")
    with pytest.raises(TrainingError, match="another training"):
        RunDirectory.create(tmp_path, tmp_path / "run", "m", "d")
    first.__exit__()
    RunDirectory.create(tmp_path, tmp_path / "run", "m", "d").__exit__()


@pytest.mark.parametrize("name", ["../../x", "/abs", "a/b", "..", "x" * 300, "a\nb"])
def test_a_runs_own_name_is_one_folder_below_runs(tmp_path: Path, name: str) -> None:
    with RunDirectory.create(tmp_path, None, name, name) as run:
        assert run.path.parent == tmp_path / "runs"


def test_what_a_killed_start_left_stands_in_no_ones_way(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f"{PREFIX}0123456789abcdef.yaml").write_text("data:")
    with RunDirectory.create(tmp_path, tmp_path / "run", "m", "d"):
        assert entries(tmp_path) == ["run", "run/run.lock"]


def test_a_summary_that_is_cut_short_ends_no_run(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    write_text(run.config, "x")
    run.summary.write_text('{"model": "len')
    assert RunDirectory.existing(tmp_path, str(run.path)).path == run.path
    run.finish({"model": "lenet"})
    with pytest.raises(RequestError, match="is finished"):
        RunDirectory.existing(tmp_path, str(run.path))
