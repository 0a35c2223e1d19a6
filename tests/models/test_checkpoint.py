"""Checkpoint files: whole or refused, never half, never another's."""

from pathlib import Path

import pytest

from nanocv_cli.errors import ModelError
from nanocv_cli.models.checkpoint import load_network, read_card, save_weights
from tests.conftest import TrainedRun


@pytest.mark.parametrize("content", [b"", b"junk", b"\xff" * 100, b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    for load in (load_network, read_card):
        with pytest.raises(ModelError, match=r"x\.safetensors"):
            load(path)


def test_a_file_cut_short_is_refused(tmp_path: Path, trained: TrainedRun) -> None:
    whole = (trained.folder / "checkpoints" / "best.safetensors").read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="no whole"):
        load_network(path)


def test_tensors_that_do_not_fit_the_card_are_refused(tmp_path: Path, trained: TrainedRun) -> None:
    network, _, card = load_network(trained.folder / "checkpoints" / "best.safetensors")
    state = network.state_dict()
    state.pop("classifier.bias")
    save_weights(tmp_path / "x.safetensors", state, card)
    with pytest.raises(ModelError, match="does not fit the architecture"):
        load_network(tmp_path / "x.safetensors")
