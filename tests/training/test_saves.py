"""What a run keeps twice: one of the two makes the other good, and where neither is whole the message helps."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nanocv_cli.errors import ConfigError, DataError, ModelError, NanocvError, StorageError
from nanocv_cli.files import write_json, write_text
from nanocv_cli.models.checkpoint import load_tensors, save_tensors
from nanocv_cli.training.context import _expect_whole_config
from nanocv_cli.training.run_directory import RunDirectory
from nanocv_cli.training.saves import (
    expect_same_images,
    mend_best,
    newest_state,
    save_state,
    telling_how_to_go_on,
)
from nanocv_cli.training.state import TrainingState

Damage = Callable[[bytes], bytes]
DAMAGES: dict[str, Damage] = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    # As long as it was, with a block that never reached the disk.
    "zeros": lambda content: content[:-64] + bytes(64),
}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Two saves, after epochs 1 and 2."""
    folder = RunDirectory(tmp_path / "run")
    for epoch in (1, 2):
        save_state(folder, {"network": {"w": torch.full((32,), float(epoch))}}, TrainingState(epoch=epoch))
    return folder


def damage(path: Path, how: Damage) -> None:
    path.write_bytes(how(path.read_bytes()))


@pytest.mark.parametrize("how", DAMAGES.values(), ids=DAMAGES)
def test_a_torn_state_is_replaced_by_the_one_before(run: RunDirectory, how: Damage) -> None:
    told: list[str] = []
    damage(run.last, how)
    groups, state = newest_state(run, told.append)
    assert (state.epoch, groups["network"]["w"].unique().item()) == (1, 1.0)
    assert len(told) == 1 and "goes on from the save before, in epoch 2" in told[0]
    save_state(run, groups, TrainingState(epoch=2))
    # What was torn must not have become the spare.
    assert load_tensors(run.previous) and newest_state(run, pytest.fail)[1].epoch == 2


def test_a_process_killed_between_the_two_renames_leaves_the_one_before(run: RunDirectory) -> None:
    told: list[str] = []
    run.last.replace(run.previous)
    assert run.has_state
    assert newest_state(run, told.append)[1].epoch == 2
    assert "was just being replaced" in told[0]


def test_two_torn_states_are_one_error_with_a_way_out(run: RunDirectory) -> None:
    save_tensors(run.best, {"w": torch.ones(32)}, {})
    for path in (run.last, run.previous):
        damage(path, DAMAGES["zeros"])
    with pytest.raises(ModelError, match=r"last\.safetensors") as raised:
        newest_state(run, pytest.fail)
    assert f"--from {run.best}" in raised.value.hint


@pytest.mark.parametrize("how", DAMAGES.values(), ids=DAMAGES)
def test_torn_best_weights_are_put_back_from_their_copy(run: RunDirectory, how: Damage) -> None:
    told: list[str] = []
    save_tensors(run.best, {"w": torch.ones(32)}, {"card": "x"})
    run.best_copy.write_bytes(whole := run.best.read_bytes())
    mend_best(run, pytest.fail)
    damage(run.best, how)
    mend_best(run, told.append)
    assert run.best.read_bytes() == whole
    assert len(told) == 1 and "put back from its copy" in told[0]
    for path in (run.best, run.best_copy):
        damage(path, how)
    with pytest.raises(ModelError) as raised:
        mend_best(run, pytest.fail)
    assert f"--from {run.last}" in raised.value.hint


def test_a_run_goes_on_with_as_many_images_as_it_began_with(run: RunDirectory) -> None:
    state = TrainingState()
    expect_same_images(run, state, {"train": 36})
    expect_same_images(run, state, {"train": 36})
    with pytest.raises(DataError, match="35 images of train can be read") as raised:
        expect_same_images(run, state, {"train": 35})
    assert f"--resume {run.path}" in raised.value.hint


@pytest.mark.parametrize("error", [StorageError("full", "then run the command again"), OSError(28, "No space"),
                                   DataError("gone", "bring it back")])  # fmt: skip
def test_a_failure_says_how_its_run_goes_on(run: RunDirectory, error: Exception) -> None:
    with pytest.raises(NanocvError) as raised, telling_how_to_go_on(run):
        raise error
    assert raised.value.hint.endswith(f"then nanocv train --resume {run.path}")


def test_half_a_config_is_not_filled_up_with_defaults(run: RunDirectory) -> None:
    write_json(run.origins, {"data.name": "--data", "train.epochs": "default"})
    write_text(run.config, "data:\n  name: x\ntrain:\n  epochs: 3\n")
    _expect_whole_config(run)
    write_text(run.config, "data:\n  name: x\ntrain:\n")
    with pytest.raises(ConfigError, match=r"lacks train\.epochs"):
        _expect_whole_config(run)
