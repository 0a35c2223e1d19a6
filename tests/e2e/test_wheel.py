"""A built wheel, used where there is no checkout."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, draw_class_image
from tests.engine.graphs import write_graph

pytestmark = pytest.mark.slow(9)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content in a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    subprocess.run([*build, str(REPOSITORY)], check=True)
    (wheel,) = folder.glob("nanocv-*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nanocv_cli.app", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_configs_are_shipped(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "config", "show", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["config"]["data"]["name"] == "flowers"
    assert document["origin"]["train.epochs"].startswith("<nanocv>/train/quick.yaml:")


def test_flowers_are_drawn_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    sets = [f"data.flowers.{key}={value}" for key, value in (("size", 64), ("train", 8), ("val", 4), ("test", 4))]
    done = run(installed, tmp_path, "data", "make", "flowers", *(word for pair in sets for word in ("--set", pair)))
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "data" / "flowers" / "train").rglob("*.jpg"))) == 8
    assert run(installed, tmp_path, "data", "check", "flowers").returncode == 0


def test_without_a_checkout_a_bare_command_says_what_to_do(installed: Path, tmp_path: Path) -> None:
    draw_class_image("red", 0).save(tmp_path / "img.png")
    done = run(installed, tmp_path, "infer", "img.png")
    assert done.returncode == 2
    assert "no trained model 'lenet'" in done.stderr
    assert "nanocv train --model lenet" in done.stderr
    assert "a checkout of nanocv's repository" in done.stderr


def test_the_licence_is_in_it(installed: Path) -> None:
    (licence,) = installed.glob("nanocv-*.dist-info/licenses/LICENSE")
    assert "Apache License" in licence.read_text()


def test_a_graph_is_served_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    write_graph(tmp_path / "colours.onnx")
    done = run(installed, tmp_path, "serve", "config", "--model", "colours.onnx", "--backend", "python", "--json")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model_repository" / "colours" / "1" / "model.py").is_file()
