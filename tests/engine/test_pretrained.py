"""Weights that a name asks for come from the repository's own remote, checked, and never over a network."""

import hashlib
from pathlib import Path

import pytest

from nanocv_cli.engine.pretrained import fetch_weights
from nanocv_cli.engine.reference import find_checkpoint, find_graph
from nanocv_cli.errors import DataError, RequestError

CONTENT = b"a graph"
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
LOCK = """\
schema: '2.0'
stages:
  lenet-flowers:
    cmd: nanocv train
    outs:
    - path: weights/lenet-flowers.onnx
      hash: md5
      md5: {md5}
      size: {size}
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone whose remote is a folder of its own, as `.dvc/config` has it."""
    (tmp_path / "dvc.lock").write_text(LOCK.format(md5=MD5, size=len(CONTENT)))
    held = tmp_path / ".dvc" / "storage" / "files" / "md5" / MD5[:2]
    held.mkdir(parents=True)
    (held / MD5[2:]).write_bytes(CONTENT)
    (tmp_path / ".dvc" / "config").write_text(
        "[core]\n    remote = repository\n['remote \"repository\"']\n    url = storage\n"
    )
    return tmp_path


@pytest.mark.parametrize("ref", ["lenet", "lenet-flowers"])
def test_a_name_without_a_run_fetches_its_weights_and_says_so(
    clone: Path, ref: str, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = find_graph(ref, clone)
    assert graph == clone / "weights" / "lenet-flowers.onnx"
    assert graph.read_bytes() == CONTENT
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert "weights/lenet-flowers.onnx" in told.err
    find_graph(ref, clone)
    assert capsys.readouterr().err == ""


def test_names_that_no_stage_makes_are_unknown(clone: Path) -> None:
    assert fetch_weights("resnet18", clone, ".onnx") is None
    with pytest.raises(RequestError, match="no trained model 'lenet'"):
        find_checkpoint("lenet", clone)


def test_a_remote_behind_a_network_is_named_and_not_asked(clone: Path) -> None:
    (clone / ".dvc" / "config.local").write_text(
        "[core]\n    remote = mine\n['remote \"mine\"']\n    url = s3://bucket/path\n"
    )
    with pytest.raises(RequestError, match=r"remote mine \(s3://bucket/path\)") as caught:
        find_graph("lenet", clone)
    assert caught.value.hint == "nanocv data pull lenet-flowers"
    assert not (clone / "weights").exists()


def test_a_remote_without_the_file_leads_to_data_pull(clone: Path) -> None:
    (clone / ".dvc" / "storage" / "files" / "md5" / MD5[:2] / MD5[2:]).unlink()
    with pytest.raises(RequestError, match="does not hold") as caught:
        find_graph("lenet", clone)
    assert caught.value.hint == "nanocv data pull lenet-flowers"


@pytest.mark.parametrize("content", [b"A graph", b"a graph and more"])
def test_a_damaged_file_of_the_remote_is_refused(clone: Path, content: bytes) -> None:
    (clone / ".dvc" / "storage" / "files" / "md5" / MD5[:2] / MD5[2:]).write_bytes(content)
    with pytest.raises(DataError):
        find_graph("lenet", clone)
    assert not (clone / "weights" / "lenet-flowers.onnx").exists()


@pytest.mark.parametrize("md5", ["../../../etc/passwd", "00", f"{MD5}.dir"])
def test_a_hash_that_is_none_leads_nowhere(clone: Path, md5: str) -> None:
    (clone / "dvc.lock").write_text(LOCK.format(md5=md5, size=7))
    with pytest.raises(RequestError, match="does not hold"):
        find_graph("lenet", clone)


def test_a_config_of_dvc_that_is_none(clone: Path) -> None:
    (clone / ".dvc" / "config").write_text("no section")
    with pytest.raises(DataError, match="config of DVC"):
        find_graph("lenet", clone)
