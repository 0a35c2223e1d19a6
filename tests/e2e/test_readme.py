"""Every command in the `sh` blocks of the README and of the walk that follows it, in order, in a fresh clone.

As it comes, the clone would draw, train and sample for minutes: this one has smaller images, and fewer to test on. What
the pages promise holds all the same.
"""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.e2e.clones import clone_repository

pytestmark = pytest.mark.slow(180)

PAGES = (REPOSITORY / "README.md", REPOSITORY / "docs" / "walk.md")
SMALLER = {
    "configs/data/flowers.yaml": {"size: 256": "size: 128", "test: 400": "test: 160"},
    "configs/model/lenet.yaml": {"input_size: 224": "input_size: 96"},
}
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def readme_commands() -> list[str]:
    text = "".join(page.read_text() for page in PAGES)
    return [line for block in BLOCK.findall(text) for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone_repository(tmp_path_factory.mktemp("readme") / "nanocv", SMALLER)


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder)}
    words = shlex.split(command)
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@contextlib.contextmanager
def running(command: str, folder: Path) -> Iterator[None]:
    """A server of the README, from when it is ready until the commands after it are done."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder)}
    with subprocess.Popen(shlex.split(command), cwd=folder, env=environment) as server:
        try:
            deadline = time.monotonic() + 60
            while True:
                assert server.poll() is None, f"{command} ended"
                with contextlib.suppress(OSError), urllib.request.urlopen("http://127.0.0.1:8000/v2/health/ready"):
                    break
                assert time.monotonic() < deadline, f"{command} is not ready"
                time.sleep(0.1)
            yield
        finally:
            server.terminate()


@pytest.mark.timeout(1500)
def test_every_command_of_the_readme_works_in_order(clone: Path) -> None:
    commands = readme_commands()
    assert len(commands) >= 10
    with contextlib.ExitStack() as background:
        for command in commands:
            if command.endswith("&"):
                background.enter_context(running(command.removesuffix("&"), clone))
                continue
            done = run(command, clone)
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    # What the pages promise of them:
    assert (clone / "annotated" / "test-00001.jpg").is_file()
    summary = json.loads((clone / "runs" / "first" / "summary.json").read_text())
    assert summary["metrics"]["top1"] >= 0.95
    lines = run("nanocv infer data/flowers/val --model lenet.onnx --json", clone).stdout.splitlines()
    answers = [json.loads(line) for line in lines]
    assert len(answers) == 200
    right = sum(Path(answer["path"]).parent.name == answer["predictions"][0]["label"] for answer in answers)
    assert right >= 180


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_images_of_a_page_are_there(page: Path) -> None:
    images = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text())
    assert len(images) >= 4
    for image in images:
        assert (page.parent / image).stat().st_size > 1000


def test_the_default_remote_stays_small() -> None:
    files = [path for path in (REPOSITORY / ".dvc" / "storage").rglob("*") if path.is_file()]
    assert files
    assert sum(path.stat().st_size for path in files) < 40_000_000
