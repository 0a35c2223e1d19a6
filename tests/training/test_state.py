"""An interrupted training's state: it comes back exactly, whole or refused."""

import errno
import os
from pathlib import Path

import pytest
import torch

from nanocv_cli.errors import ModelError, StorageError
from nanocv_cli.training.learner import load_training, save_training
from nanocv_cli.training.state import TrainingState, read_progress
from tests.training.weights import same_weights


def test_training_state_comes_back_exactly(tmp_path: Path) -> None:
    groups = {"network": {"a.b": torch.randn(3, 2)}, "optimiser": {"a.b/step": torch.tensor(7.0)}}
    state = TrainingState(epoch=2, step=5, loss_sum=0.1 + 0.2, history=[{"epoch": 1}], fingerprint="f")
    save_training(tmp_path / "last.safetensors", groups, state)
    found, found_state = load_training(tmp_path / "last.safetensors")
    assert found_state == state == read_progress(tmp_path / "last.safetensors")
    assert torch.equal(found["network"]["a.b"], groups["network"]["a.b"])
    assert torch.equal(found["optimiser"]["a.b/step"], groups["optimiser"]["a.b/step"])


@pytest.mark.parametrize("content", [b"", b"junk", b"\xff" * 100, b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    for read in (load_training, read_progress):
        with pytest.raises(ModelError, match=r"x\.safetensors"):
            read(path)


def test_a_full_disk_leaves_the_previous_checkpoint_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.safetensors"
    save_training(path, {"network": {"w": torch.ones(4)}}, TrainingState(epoch=1))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(StorageError, match="No space left"):
        patch.setattr(os, "fsync", full)
        save_training(path, {"network": {"w": torch.zeros(4)}}, TrainingState(epoch=2))
    groups, state = load_training(path)
    assert state.epoch == 1
    assert torch.equal(groups["network"]["w"], torch.ones(4))
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.safetensors"]


def test_same_weights_sees_one_bit(tmp_path: Path) -> None:
    one = torch.ones(4)
    other = one.clone()
    other[3] = torch.nextafter(other[3], torch.tensor(2.0))
    for name, tensor in (("a", one), ("b", one), ("c", other)):
        save_training(tmp_path / f"{name}.safetensors", {"g": {"w": tensor}}, TrainingState())
    assert same_weights(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert not same_weights(tmp_path / "a.safetensors", tmp_path / "c.safetensors")
