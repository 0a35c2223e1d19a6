"""Every documented command without a word more than its name, in a fresh clone, and again after the demo."""

import contextlib
import json
import os
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import draw_class_image, run_nanocv
from tests.e2e.clones import clone_repository

pytestmark = pytest.mark.slow(60)

# Options only shorten what would take a minute.
BARE = (
    "infer img.png",
    "sample -n 1",
    "serve config",
    "serve list",
    "bench model --rounds 1 --round-s 0.02",
    "bench server --window-s 0.1 --windows 3 --warmup-s 0 --queue-delay-us 500 --instances 1",
    "analyze flops",
    "export onnx",
    "eval",
    "data check",
)
FEW = {
    "configs/data/flowers.yaml": {"train: 1600": "train: 32", "val: 200": "val: 8", "test: 400": "test: 16"},
    "configs/model/lenet.yaml": {"input_size: 224": "input_size: 96"},
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clone as it comes, but for a set and a LeNet that take a second each; the current folder of all these tests."""
    folder = clone_repository(tmp_path_factory.mktemp("bare") / "nanocv", FEW)
    draw_class_image("red", 0).save(folder / "img.png")
    with contextlib.chdir(folder):
        yield folder


def run(command: str) -> Any:
    """What the command printed as JSON; it did its work and told no more than a few lines."""
    done = run_nanocv(*shlex.split(command), "--json")
    assert done.code == 0, f"{command}\n{done.err}"
    assert len(done.err.splitlines()) <= 3, f"{command}\n{done.err}"
    return json.loads(done.out)


def test_in_a_fresh_clone(clone: Path) -> None:
    answers = {command.partition(" -")[0]: run(command) for command in BARE}
    assert answers["infer img.png"]["predictions"][0]["label"] in ("daisy", "rose", "sunflower", "tulip")
    assert answers["serve config"]["differences"] == []
    assert [model["name"] for model in answers["serve list"]["models"]] == ["lenet", "nanoflow", "nanoseg", "nanospot"]
    assert answers["export onnx"]["parity"]["n"] == 12
    assert answers["eval"]["n"] == 16
    assert answers["eval"]["metrics"]["top1"] > 0.8  # trained on others of the same species
    assert answers["data check"]["errors"] == 0


def test_the_repository_is_served_as_cloned(clone: Path) -> None:
    free = [word for port in ("http", "grpc", "metrics") for word in (f"--{port}-port", "0")]
    command = [sys.executable, "-m", "nanocv_cli.app", "serve", "run", "--json", *free]
    with subprocess.Popen(command, cwd=clone, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            port = json.loads(server.stdout.readline())["http_port"]
            for model in ("lenet", "nanoflow", "nanoseg", "nanospot"):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/{model}/ready") as answer:
                    assert answer.status == 200
        finally:
            server.terminate()


def test_after_the_demo(clone: Path) -> None:
    """What it trained is what a bare command takes from then on."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(clone)}
    demo = subprocess.run(["sh", "scripts/demo.sh"], env=environment, capture_output=True, text=True, check=False)
    assert demo.returncode == 0, demo.stderr
    assert "ERROR" not in demo.stdout + demo.stderr
    image = "data/flowers/test/rose/test-00001.jpg"
    answers = [line for line in demo.stdout.splitlines() if line.startswith(f"{image}  ")]
    assert len(answers) == 2  # of the pretrained weights first, of the model of one's own in the end
    best = {command.partition(" -")[0]: run(command) for command in BARE}
    assert Path(best["eval"]["file"]) == clone / "runs" / "demo" / "lenet" / "checkpoints" / "best.safetensors"
    assert Path(best["export onnx"]["path"]).is_relative_to(clone / "runs" / "demo" / "lenet")
    assert {Path(row["model"]) for row in best["bench model"]["rows"]} == {
        clone / "runs" / "demo" / "lenet" / "model.onnx"
    }
    assert best["serve config"]["version"] == 2  # the pretrained one stays
