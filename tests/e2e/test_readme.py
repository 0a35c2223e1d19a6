"""Every command of the README's `sh` blocks, in order, in a fresh clone."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def readme_commands() -> list[str]:
    text = (REPOSITORY / "README.md").read_text()
    return [line for block in BLOCK.findall(text) for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme") / "nanocv"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
    return folder


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder)}
    words = shlex.split(command)
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.timeout(1500)
def test_every_command_of_the_readme_works_in_order(clone: Path) -> None:
    commands = readme_commands()
    assert len(commands) >= 10
    for command in commands:
        done = run(command, clone)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    # What the README promises of them:
    assert (clone / "annotated" / "test-00001.jpg").is_file()
    summary = json.loads((clone / "runs" / "first" / "summary.json").read_text())
    assert summary["metrics"]["top1"] >= 0.95
    lines = run("nanocv infer data/flowers/val --model lenet.onnx --json", clone).stdout.splitlines()
    answers = [json.loads(line) for line in lines]
    assert len(answers) == 200
    right = sum(Path(answer["path"]).parent.name == answer["predictions"][0]["label"] for answer in answers)
    assert right >= 180


def test_the_pictures_of_the_readme_are_there() -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (REPOSITORY / "README.md").read_text())
    assert len(pictures) >= 4
    for picture in pictures:
        assert (REPOSITORY / picture).stat().st_size > 1000


def test_the_default_remote_stays_small() -> None:
    files = [path for path in (REPOSITORY / ".dvc" / "storage").rglob("*") if path.is_file()]
    assert files
    assert sum(path.stat().st_size for path in files) < 15_000_000
