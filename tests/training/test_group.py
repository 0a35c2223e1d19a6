"""Two processes learn, from the same batches, what one learns; and measure the same."""

import json
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nanocv_cli.training.state import read_progress
from tests.conftest import TINY, write_tiny_set
from tests.training.signalled import signal_at
from tests.training.train_process import TrainProcess, group_environment
from tests.training.weights import same_weights

CHANGES = (*TINY, "train.epochs=6", "train.optimizer=sgd", "train.learning_rate=0.01")
SETS = [word for pair in CHANGES for word in ("--set", pair)]


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
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny set: three batches of validation, so that two processes have uneven parts."""
    folder = tmp_path_factory.mktemp("group")
    write_tiny_set(folder / "colours", {"train": 16, "val": 24})
    return folder


def finished(root: Path, name: str, processes: list[TrainProcess]) -> Run:
    ends = [process.finish() for process in processes]
    assert {code for code, _ in ends} == {0}, ends
    history = read_progress(root / name / "checkpoints" / "last.safetensors").history
    return Run(history, json.loads((root / name / "summary.json").read_text()), [said for _, said in ends])


@pytest.fixture(scope="module")
def train(root: Path) -> Callable[..., Run]:
    """Trains by some processes."""

    def run(name: str, world: int, *arguments: str) -> Run:
        environments = group_environment(world) if world > 1 else [{}]
        options = [*SETS, *arguments, "--out", name]
        processes = [TrainProcess(root, *options, environment=one, with_graph=False) for one in environments]
        return finished(root, name, processes)

    return run


LENET = ["--data", "colours", "--model", "lenet", "--set", "train.augment.mix=0.5"]
SYNCHRONISED = ["--set", "train.sync_batchnorm=true"]
# Small, and without batch norm: its norms are of groups of channels, image by image.
SMALL = ("model.args.widths=[8,8]", "model.args.depth=1", "model.sampling.steps=1", "train.epochs=1")
FLOW = ["--data", "colours", "--model", "nanoflow", *(word for pair in SMALL for word in ("--set", pair))]


@pytest.fixture(scope="module")
def alone(train: Callable[..., Run]) -> Run:
    return train("alone", 1, *LENET)


@pytest.fixture(scope="module")
def both(train: Callable[..., Run]) -> Run:
    return train("both", 2, *LENET, *SYNCHRONISED)


@pytest.mark.slow(8)
def test_with_batch_norm_over_both_two_processes_learn_and_measure_what_one_does(alone: Run, both: Run) -> None:
    for which in ("train_loss", "val_loss"):
        assert both.losses(which) == pytest.approx(alone.losses(which), abs=1e-5)
    assert both.summary["metrics"]["loss"] == pytest.approx(alone.summary["metrics"]["loss"], abs=1e-5)
    assert both.summary.keys() == alone.summary.keys()
    # Each image once: as many as the split has.
    counts = [run.summary["metrics"]["per_class"]["red"]["n"] for run in (alone, both)]
    assert counts == [24, 24]
    assert "x 2 processes" in both.said[0]
    assert both.said[1] == ""


@pytest.mark.slow(8)
def test_two_processes_that_are_stopped_and_resumed_as_two_end_with_the_same_bits(both: Run, root: Path) -> None:
    options = [*SETS, *LENET, *SYNCHRONISED, "--out", "stopped"]
    stops = signal_at(root / "sent-to-stop", signal.SIGINT, rank=1, epoch=1)  # at the first of its two steps
    processes = [
        TrainProcess(root, *options, environment={**one, **stops}, with_graph=False) for one in group_environment(2)
    ]
    assert [process.finish()[0] for process in processes] == [130, 130]
    resumed = [
        TrainProcess(root, "--resume", "stopped", environment=one, with_graph=False) for one in group_environment(2)
    ]
    assert finished(root, "stopped", resumed).losses("val_loss") == both.losses("val_loss")
    for kind in ("last", "best"):
        assert same_weights(*(root / name / "checkpoints" / f"{kind}.safetensors" for name in ("both", "stopped")))


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


@pytest.mark.slow(12)
def test_a_killed_worker_of_nproc_is_named_and_the_run_goes_on_with_another_number(alone: Run, root: Path) -> None:
    dies = signal_at(root / "sent-to-kill", signal.SIGKILL, rank=1, epoch=2)
    options = [*SETS, *LENET, *SYNCHRONISED, "--nproc", "2", "--out", "killed"]
    process = TrainProcess(root, *options, environment=dies)
    code, said = process.finish()
    assert code == 1
    assert said.count("error:") == 1
    assert "process 1 of 2 was ended by SIGKILL" in said
    resumed = finished(root, "killed", [TrainProcess(root, "--resume", "killed", with_graph=False)])
    assert resumed.losses("val_loss") == pytest.approx(alone.losses("val_loss"), abs=1e-5)


@pytest.mark.slow(20)
def test_two_groups_of_torchrun_train_one_run_and_make_good_a_killed_worker(alone: Run, root: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{probe.getsockname()[1]}"
    torchrun = (
        "--nnodes=2", "--nproc-per-node=1", "--max-restarts=1", "--rdzv-backend=c10d", f"--rdzv-endpoint={meeting}",
        "--rdzv-id=job", "--local-addr=127.0.0.1",
    )  # fmt: skip
    sent = root / "sent-to-a-group"
    dies = signal_at(sent, signal.SIGKILL, rank=1, epoch=2)  # whichever of the two has started that one
    environment = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1", **dies}
    options = [*SETS, *LENET, *SYNCHRONISED, "--out", "groups"]
    groups = [TrainProcess(root, *options, environment=environment, torchrun=torchrun) for _ in range(2)]
    run = finished(root, "groups", groups)
    assert sent.exists()
    assert [row["epoch"] for row in run.history] == [1, 2, 3, 4, 5, 6]
    assert run.losses("val_loss") == pytest.approx(alone.losses("val_loss"), abs=1e-5)
    assert run.summary["metrics"]["loss"] == pytest.approx(alone.summary["metrics"]["loss"], abs=1e-5)
