from pathlib import Path

import pytest

from nanocv_cli.config import project as project_module
from nanocv_cli.config.project import project_root, shipped_configs, shown


@pytest.mark.parametrize("mark", ["dvc.yaml", ".dvc/config", "configs/train/own.yaml"])
def test_root_is_the_nearest_marked_ancestor(tmp_path: Path, mark: str) -> None:
    inner = tmp_path / "outer" / "a" / "b"
    inner.mkdir(parents=True)
    for marked in (tmp_path / "outer", tmp_path):
        (marked / mark).parent.mkdir(parents=True, exist_ok=True)
        (marked / mark).touch()
    assert project_root(inner) == tmp_path / "outer"
    assert project_root(tmp_path / "outer") == tmp_path / "outer"


def test_configs_of_another_program_do_not_make_a_project(tmp_path: Path) -> None:
    inner = tmp_path / "a"
    inner.mkdir()
    (tmp_path / "configs" / "nginx").mkdir(parents=True)
    assert project_root(inner) == inner


def test_root_starts_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert project_root() == tmp_path.resolve()


def test_shipped_configs_hold_the_defaults() -> None:
    assert (shipped_configs() / "defaults.yaml").is_file()


def test_configs_inside_the_package_come_before_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "nanocv_cli" / "config" / "project.py"
    monkeypatch.setattr(project_module, "__file__", str(module))
    assert shipped_configs() == tmp_path / "configs"
    (tmp_path / "nanocv_cli" / "shipped_configs").mkdir(parents=True)
    assert shipped_configs() == tmp_path / "nanocv_cli" / "shipped_configs"


def test_paths_are_shown_short(project: Path) -> None:
    assert shown(project / "configs" / "data" / "a.yaml") == "configs/data/a.yaml"
    assert shown(shipped_configs() / "model" / "lenet.yaml") == "<nanocv>/model/lenet.yaml"
    assert shown(Path("/elsewhere/a.yaml")) == "/elsewhere/a.yaml"
