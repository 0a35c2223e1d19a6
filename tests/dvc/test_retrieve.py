"""DVC for real: pulled from a folder and from loopback HTTP, and reproduced where the remote holds nothing."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Command

pytestmark = pytest.mark.slow(16)

pytest.importorskip("dvc")

CONFIG = (
    "name: flowers\npath: data/flowers\narchive: data/flowers.tar\nformat: class_folders\n"
    "classes: [daisy, rose, sunflower, tulip]\nflowers: {seed: 0, size: 64, train: 8, val: 4, test: 4}\n"
)
STAGES = """\
stages:
  flowers:
    cmd: nanocv data make flowers
    deps: [configs/data/flowers.yaml]
    outs: [data/flowers.tar]
  toy:
    cmd: mkdir -p weights && cat data/flowers.tar | wc -c > weights/toy.onnx
    deps: [data/flowers.tar]
    outs: [weights/toy.onnx]
"""


def dvc(folder: Path, *arguments: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "PATH": path}
    subprocess.run([sys.executable, "-m", "dvc", "-q", *arguments], cwd=folder, check=True, env=environment)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose stages ran and whose outputs were pushed to `.dvc/storage`."""
    folder = tmp_path_factory.mktemp("published") / "project"
    (folder / "configs" / "data").mkdir(parents=True)
    (folder / "configs" / "data" / "flowers.yaml").write_text(CONFIG)
    (folder / "dvc.yaml").write_text(STAGES)
    dvc(folder, "init", "--no-scm")
    dvc(folder, "remote", "add", "-d", "here", ".dvc/storage")
    dvc(folder, "repro")
    dvc(folder, "push")
    return folder


@pytest.fixture
def clone(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh clone: everything but the data, the weights and DVC's own cache."""
    folder = tmp_path / "clone"
    shutil.copytree(
        published, folder, ignore=lambda d, names: {n for n in names if n in ("data", "weights", "cache", "tmp")}
    )
    (folder / "configs" / "data").mkdir(parents=True, exist_ok=True)
    shutil.copy(published / "configs" / "data" / "flowers.yaml", folder / "configs" / "data")
    monkeypatch.chdir(folder)
    return folder


def test_pull_takes_the_archive_from_the_default_remote(nanocv: Command, clone: Path) -> None:
    entries = {e["name"]: e["state"] for e in nanocv("data", "list", "--json").document["sets"]}
    assert entries == {"flowers": "not here", "toy": "not here"}
    outcome = nanocv("data", "pull", "flowers", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["how"] == "pulled"
    assert len(list((clone / "data" / "flowers" / "train").rglob("*.jpg"))) == 8
    entries = {e["name"]: e["state"] for e in nanocv("data", "list", "--json").document["sets"]}
    assert entries["flowers"] == "ready"


def test_pull_takes_weights_alone(nanocv: Command, clone: Path) -> None:
    outcome = nanocv("data", "pull", "toy", "--json")
    assert outcome.document == {"name": "toy", "how": "pulled", "paths": [str(clone / "weights/toy.onnx")]}
    assert not (clone / "data").exists()


def test_an_empty_remote_leads_to_the_stage(nanocv: Command, clone: Path) -> None:
    shutil.rmtree(clone / ".dvc" / "storage")
    outcome = nanocv("data", "pull", "flowers", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["how"] == "reproduced"
    assert "the remote does not hold data/flowers.tar: reproducing stage flowers" in outcome.err


def test_a_set_that_came_by_itself_is_not_made_again(nanocv: Command, clone: Path) -> None:
    shutil.rmtree(clone / ".dvc" / "storage")
    assert nanocv("data", "check", "flowers").code == 0
    outcome = nanocv("data", "pull", "flowers", "--json")
    assert outcome.document["how"] == "here"
    assert "drawing" not in outcome.err
    dvc(clone, "checkout", "flowers")  # DVC has it now


def test_a_damaged_archive_is_refused(nanocv: Command, clone: Path) -> None:
    assert nanocv("data", "pull", "flowers").code == 0
    shutil.rmtree(clone / "data" / "flowers")
    archive = clone / "data" / "flowers.tar"
    content = bytearray(archive.read_bytes())
    content[5000] ^= 1
    archive.unlink()  # DVC may have linked it to its cache
    archive.write_bytes(content)
    outcome = nanocv("data", "show", "flowers")
    assert outcome.code == 1
    assert "dvc.lock records" in outcome.err
    assert not (clone / "data" / "flowers").exists()


@pytest.fixture
def http_remote(published: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(published / ".dvc" / "storage"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_pull_from_a_second_remote_over_http(nanocv: Command, clone: Path, http_remote: str) -> None:
    shutil.rmtree(clone / ".dvc" / "storage")
    dvc(clone, "remote", "add", "web", http_remote)
    outcome = nanocv("data", "pull", "flowers", "--remote", "web", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["how"] == "pulled"
    assert len(list((clone / "data" / "flowers" / "test").rglob("*.jpg"))) == 4
