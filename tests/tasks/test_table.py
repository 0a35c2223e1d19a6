"""The table of tasks: all parts of all rooms are there, without torch, and others enter theirs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest

from nanocv_cli import rooms
from nanocv_cli.config.loader import resolve
from nanocv_cli.errors import ConfigError, ModelError
from nanocv_cli.rooms import BUILT_IN, Room, Score, register, room, task_names
from nanocv_cli.tasks.postprocessor import Postprocessor
from nanocv_cli.tasks.table import checkpoint_sampler_for, graph_sampler_for, postprocessor_for, task_for


def test_every_room_of_the_table_has_its_parts() -> None:
    for name, one in BUILT_IN.items():
        assert task_for(name).name == name
        if one.postprocessor:
            postprocessor = postprocessor_for(name)
            assert isinstance(postprocessor, Postprocessor)
            assert postprocessor is postprocessor_for(name)
        for path in (*one.networks.values(), one.torchvision, one.graph_sampler, one.checkpoint_sampler):
            assert path is None or callable(resolve_name(path))


def test_a_task_is_made_once() -> None:
    assert task_for("detection") is task_for("detection")


def test_unknown_tasks_are_refused_on_both_sides() -> None:
    for find in (postprocessor_for, task_for):
        with pytest.raises(ModelError, match="unknown task 'telepathy'") as refused:
            find("telepathy")
        assert "classification, detection" in (refused.value.hint or "")


def test_a_task_whose_models_answer_no_images_says_so() -> None:
    with pytest.raises(ModelError, match="a generation model makes images, it reads none"):
        postprocessor_for("generation")
    for sampler_for in (graph_sampler_for, checkpoint_sampler_for):
        with pytest.raises(ModelError, match="a detection model makes no images"):
            sampler_for("detection")


def test_nobody_enters_a_task_twice() -> None:
    with pytest.raises(ValueError, match="there is a task 'detection' already"):
        register("detection", Room(task="elsewhere:Detection", score=Score("map")))


def test_a_registered_task_is_one_of_the_names_a_config_may_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bare.yaml").write_text("name: bare\n")
    monkeypatch.setattr(rooms, "_registered", {})
    register("telepathy", Room(task="elsewhere:Telepathy", score=Score("top1")))
    assert task_names()[-1] == "telepathy"
    assert resolve(train="bare.yaml", overrides=["model.task=telepathy"]).config.model.task == "telepathy"


def test_a_wrong_name_in_a_config_is_answered_with_its_place_and_the_nearest(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("name: mine\narchitecture: nanospot\ntask: detections\n")
    with pytest.raises(ConfigError) as refused:
        resolve(model=str(config))
    assert refused.value.message == (
        f"{config}:3: model.task is 'detections'; expected one of classification, detection, segmentation, generation"
    )
    assert refused.value.hint == "did you mean detection?"


MIND = """
from nanocv_cli.rooms import Room, Score
ROOM = Room(task="mind.task:Telepathy", score=Score("top1"))
"""
ENTERED = """
import sys
sys.path.insert(0, sys.argv[1])
from nanocv_cli.rooms import room, task_names
import json
print(json.dumps([task_names()[-1], room("telepathy").task, "torch" in sys.modules, "mind" in sys.modules]))
"""


def enter(folder: Path, value: str, module: str = "") -> None:
    """An installed package that enters the task `telepathy`."""
    (folder / "mind-1.0.dist-info").mkdir()
    (folder / "mind-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mind\nVersion: 1.0\n")
    (folder / "mind-1.0.dist-info" / "entry_points.txt").write_text(f"[nanocv.tasks]\ntelepathy = {value}\n")
    (folder / "mind.py").write_text(module)


def test_an_installed_package_enters_its_task(tmp_path: Path) -> None:
    enter(tmp_path, "mind:ROOM", MIND)
    done = subprocess.run([sys.executable, "-c", ENTERED, tmp_path], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["telepathy", "mind.task:Telepathy", False, True]


def test_a_package_that_is_installed_and_removed_meanwhile_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(tmp_path, (1, 1))  # what comes next is later, however coarse the clock of the file system is
    monkeypatch.syspath_prepend(tmp_path)
    assert "telepathy" not in task_names()
    enter(tmp_path, "mind:ROOM", MIND)
    assert "telepathy" in task_names()
    shutil.rmtree(tmp_path / "mind-1.0.dist-info")
    os.utime(tmp_path, (2, 2))
    assert "telepathy" not in task_names()


@pytest.mark.parametrize(
    ("value", "module", "told"),
    [
        ("mind:NONE", "", "no attribute 'NONE'"),
        ("mind:ROOM", "ROOM = 7", "mind:ROOM is no Room"),
        ("brain:ROOM", "", "No module named 'brain'"),
    ],
)
def test_a_broken_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, module: str, told: str
) -> None:
    enter(tmp_path, value, module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mind", raising=False)
    with pytest.raises(ModelError, match=f"brings the task 'telepathy' is broken: .*{told}"):
        room("telepathy")
