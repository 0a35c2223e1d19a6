"""Two processes learn, from the same batches, what one learns; and measure the same."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from nanocv_cli.training.state import read_progress
from tests.conftest import TINY, write_tiny_set
from tests.training.train_process import TrainProcess, group_environment

SETS = [word for pair in (*TINY, "train.optimizer=sgd", "train.learning_rate=0.01") for word in ("--set", pair)]


@dataclass(frozen=True)
class Run:
    """What a training left.

    Attributes:
        history: rows of its epochs.
        summary: as it was written.
        said: stderr of each process.
    """

    history: list[dict[str, Any]]
    summary: dict[str, Any]
    said: list[str]

    def losses(self, which: str) -> list[float]:
        return [row[which] for row in self.history]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Trains on a tiny set by some processes."""
    root = tmp_path_factory.mktemp("group")
    # Three batches of validation, so that two processes have uneven parts.
    data = write_tiny_set(root / "colours", {"train": 16, "val": 24})

    def run(name: str, world: int, *arguments: str) -> Run:
        environments = group_environment(world) if world > 1 else [{}]
        options = ["--data", str(data), *SETS, *arguments, "--out", name]
        processes = [TrainProcess(root, *options, environment=environment) for environment in environments]
        ends = [process.finish() for process in processes]
        assert {code for code, _ in ends} == {0}, ends
        history = read_progress(root / name / "checkpoints" / "last.safetensors").history
        return Run(history, json.loads((root / name / "summary.json").read_text()), [said for _, said in ends])

    return run


LENET = ["--model", "lenet", "--set", "train.augment.mix=0.5"]
# Small, and without batch norm: its norms are of groups of channels, image by image.
FLOW = ["--model", "nanoflow", "--set", "model.args.widths=[8,8]", "--set", "model.args.depth=1"]


@pytest.fixture(scope="module")
def alone(train: Callable[..., Run]) -> Run:
    return train("alone", 1, *LENET)


@pytest.mark.slow(8)
def test_with_batch_norm_over_both_two_processes_learn_and_measure_what_one_does(
    alone: Run, train: Callable[..., Run]
) -> None:
    both = train("both", 2, *LENET, "--set", "train.sync_batchnorm=true")
    for which in ("train_loss", "val_loss", "train_score", "val_score"):
        assert both.losses(which) == pytest.approx(alone.losses(which), abs=1e-5)
    assert both.summary["metrics"]["loss"] == pytest.approx(alone.summary["metrics"]["loss"], abs=1e-5)
    assert both.summary.keys() == alone.summary.keys()
    # Each image once: as many as the split has.
    counts = [run.summary["metrics"]["per_class"]["red"]["n"] for run in (alone, both)]
    assert counts == [24, 24]
    assert "x 2 processes" in both.said[0]
    assert both.said[1] == ""


@pytest.mark.slow(4)
def test_batch_norm_of_each_process_by_itself_learns_something_else(alone: Run, train: Callable[..., Run]) -> None:
    apart = train("apart", 2, *LENET)
    assert abs(apart.losses("train_loss")[-1] - alone.losses("train_loss")[-1]) > 1e-3


@pytest.mark.slow(8)
def test_without_batch_norm_processes_and_micro_batches_learn_what_one_batch_teaches(
    train: Callable[..., Run],
) -> None:
    alone, both = train("flow", 1, *FLOW), train("flows", 2, *FLOW, "--set", "train.accumulate=2")
    assert both.losses("train_loss") == pytest.approx(alone.losses("train_loss"), abs=1e-5)
