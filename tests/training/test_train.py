"""Training as the user runs it: what a run leaves, how it stops, and that it always goes on where it stopped."""

import json
import random
import re
import signal
import time
from pathlib import Path

import pytest
from PIL import Image

from nanocv_cli.config.loader import load_resolved
from tests.conftest import TINY, Command, TrainedRun, write_tiny_set
from tests.training.train_process import TrainProcess
from tests.training.weights import same_weights

SETS = [word for pair in TINY for word in ("--set", pair)]


def test_a_run_learns_and_leaves_everything(trained: TrainedRun) -> None:
    summary = trained.summary
    assert summary["metric"] == "top1"
    assert summary["metrics"]["top1"] >= 0.9
    assert summary["split"] == "test"
    assert summary["epochs"] == 6
    assert summary["images_per_second"] > 0
    for name in (
        "config.yaml",
        "checkpoints/best.safetensors",
        "checkpoints/last.safetensors",
        "model.onnx",
        "summary.json",
    ):
        assert (trained.folder / name).stat().st_size > 0
    for name in ("curves.png", "confusion.png"):
        with Image.open(trained.folder / name) as image:
            assert min(image.size) > 200
    assert json.loads((trained.folder / "summary.json").read_text()) == summary


def test_metrics_are_there_for_dvc(trained: TrainedRun) -> None:
    metrics = json.loads((trained.folder / "dvclive" / "metrics.json").read_text())
    assert metrics["final"]["top1"] == trained.summary["metrics"]["top1"]
    rows = (trained.folder / "dvclive" / "plots" / "metrics" / "val_score.tsv").read_text().splitlines()
    assert len(rows) == 1 + 6


def test_plain_options_are_what_is_trained_with(nanocv: Command, project: Path, tiny_set: Path) -> None:
    plain = ["--epochs", "1", "--batch-size", "6", "--lr", "1e-3", "--seed", "5", "--name", "mine"]
    sets = ["--set", "model.input_size=32", "--set", "train.precision=fp32"]
    outcome = nanocv("train", "--data", tiny_set, "--model", "lenet", *sets, *plain, "--out", "run", "--json")
    assert outcome.code == 0, outcome.err
    assert (outcome.document["epochs"], outcome.document["model"]) == (1, "mine")
    config = load_resolved(project / "run" / "config.yaml")
    assert (config.train.batch_size, config.train.learning_rate, config.train.seed) == (6, 1e-3, 5)


@pytest.mark.slow(13)
@pytest.mark.parametrize("model", ["mobilenet_v3_small", "resnet18"])
def test_a_torchvision_model_trains_evaluates_and_exports(
    nanocv: Command, project: Path, tiny_set: Path, model: str
) -> None:
    outcome = nanocv("train", "--data", tiny_set, "--model", model, *SETS, "--set", "train.epochs=1", "--json")
    assert outcome.code == 0, outcome.err
    assert Path(outcome.document["onnx"]).is_file()
    scores = [
        nanocv("eval", "--model", model, "--data", tiny_set, "--engine", engine, "--json").document["metrics"]["loss"]
        for engine in ("torch", "onnx")
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)


@pytest.mark.slow(4)
def test_unreadable_training_images_are_left_out_with_a_warning(nanocv: Command, project: Path, tiny_set: Path) -> None:
    victim = tiny_set / "train" / "red" / "000.png"
    victim.write_bytes(victim.read_bytes()[:80])
    outcome = nanocv("train", "--data", tiny_set, "--model", "lenet", *SETS, "--json")
    assert outcome.code == 0, outcome.err
    assert f"warning: left out of train: {victim}" in outcome.err
    assert "35 train" in outcome.err


def test_a_folder_in_use_is_refused_and_a_full_one_too(nanocv: Command, project: Path, tiny_set: Path) -> None:
    import fcntl

    run = project / "run"
    run.mkdir()
    with (run / "run.lock").open("w") as lock:
        lock.write("4242")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = nanocv("train", "--data", tiny_set, *SETS, "--out", run)
        assert outcome.code == 1
        assert "another training (process 4242) is writing" in outcome.err
    (run / "notes.txt").write_text("mine")
    outcome = nanocv("train", "--data", tiny_set, *SETS, "--out", run)
    assert outcome.code == 2
    assert "is not empty" in outcome.err
    assert (run / "notes.txt").read_text() == "mine"


def test_a_run_folder_that_cannot_be_written_is_one_line(nanocv: Command, project: Path, tiny_set: Path) -> None:
    (project / "file").write_text("in the way")
    outcome = nanocv("train", "--data", tiny_set, *SETS, "--out", "file/run")
    assert outcome.code == 1
    assert "cannot write the run folder" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.slow(4)
def test_a_loss_that_is_no_number_stops_with_advice(nanocv: Command, project: Path, tiny_set: Path) -> None:
    outcome = nanocv(
        "train", "--data", tiny_set, *SETS, "--set", "train.optimizer=sgd", "--set", "train.learning_rate=100",
        "--set", "train.epochs=40", "--set", "train.momentum=0.99", "--set", "train.weight_decay=10", "--out", "run",
    )  # fmt: skip
    assert outcome.code == 1
    assert re.search(r"the (val )?loss became (nan|inf) in epoch", outcome.err)
    assert "train.learning_rate=10" in outcome.err
    assert not (project / "run" / "summary.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--device", "tpu"], 2, "unknown device"),
        (["--set", "model.input_size=33"], 2, "multiple of 32"),
        (["--model", "alexnet", "--set", "model.input_size=32"], 2, "needs at least 63"),
        (["--set", "model.architecture=lennet"], 2, "nanocv has lenet"),
        (["--epochs", "3", "--set", "train.epochs=4"], 2, "--epochs and --set train.epochs=4 both say"),
        (["--resume", "no-such-run"], 2, "no run folder"),
        (["--resume", "no-such-run", "--epochs", "3"], 2, "only --device, --nproc and --set train.accumulate may"),
        (
            ["--resume", "no-such-run", "--set", "train.seed=1"],
            2,
            "only --device, --nproc and --set train.accumulate may",
        ),
        (["--resume", "no-such-run", "--set", "train.accumulate=2"], 2, "no run folder"),
        (["--resume", "no-such-run", "--from", "lenet"], 2, "only --device, --nproc and --set train.accumulate may"),
        (["--from", "no-such-model"], 2, "no trained model 'no-such-model'"),
        (["--from", "no-such.safetensors"], 2, "no file no-such.safetensors"),
        (["--model", "lenet", "--from", "a", "--set", "train.start=b"], 2, "--from and --set train.start=b both say"),
        (["--model", "lenet", "--set", "train.freeze=[featurse]"], 2, "did you mean features?"),
    ],
)
def test_a_wrong_request_is_one_line(
    nanocv: Command, project: Path, tiny_set: Path, arguments: list[str], code: int, message: str
) -> None:
    base = [] if "--resume" in arguments else ["--data", str(tiny_set)]
    outcome = nanocv("train", *base, *arguments)
    assert outcome.code == code
    assert message in outcome.err
    assert len([line for line in outcome.err.splitlines() if line.startswith("error:")]) == 1


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run that was never interrupted, and the arguments that began it."""
    root = tmp_path_factory.mktemp("reference")
    data = write_tiny_set(root / "colours", {"train": 40, "val": 8})
    sets = [*SETS, "--set", "train.epochs=8", "--set", "train.ema_decay=0.9", "--set", "model.args.dropout=0.2"]
    arguments = ["--data", str(data), "--model", "lenet", *sets]
    code, errors = TrainProcess(root, *arguments, "--out", "whole").finish()
    assert code == 0, errors
    return root, arguments


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_and_resumed_ends_with_the_same_bits(reference: tuple[Path, list[str]], seed: int) -> None:
    root, arguments = reference
    run = root / f"killed-{seed}"
    chance = random.Random(seed)
    process = TrainProcess(root, *arguments, "--out", run.name)
    kills = 0
    while True:
        # Most of a short run is start-up: wait for the folder to show life, then kill anywhere in what follows.
        deadline = time.monotonic() + 60
        marks = _epochs(run)
        while process.is_running() and _epochs(run) == marks and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.15))
        if not process.is_running() or kills == 3:
            break
        process.kill()
        kills += 1
        if not (run / "config.yaml").exists():
            process = TrainProcess(root, *arguments, "--out", run.name)
        else:
            process = TrainProcess(root, "--resume", str(run))
    code, errors = process.finish()
    assert code == 0, errors
    assert kills >= 1
    for name in ("best", "last"):
        checkpoint = f"checkpoints/{name}.safetensors"
        assert same_weights(root / "whole" / checkpoint, run / checkpoint)
    histories = [(root / f / "dvclive/plots/metrics/val_loss.tsv").read_text().splitlines()[1:] for f in ("whole", run)]
    assert [row.split("\t")[-1] for row in histories[0]] == [row.split("\t")[-1] for row in histories[1]]


def _epochs(run: Path) -> float:
    last = run / "checkpoints" / "last.safetensors"
    try:
        return last.stat().st_mtime
    except OSError:
        return 0.0


def test_ctrl_c_saves_and_says_how_to_go_on(reference: tuple[Path, list[str]]) -> None:
    root, arguments = reference
    run = root / "interrupted"
    process = TrainProcess(root, *arguments, "--out", run.name)
    deadline = time.monotonic() + 60
    while not (run / "checkpoints" / "last.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    code, errors = process.finish()
    assert code == 130, errors
    assert f"nanocv train --resume {run.name}" in errors
    assert "Traceback" not in errors
    code, errors = TrainProcess(root, "--resume", run.name).finish()
    assert code == 0, errors
    assert same_weights(root / "whole/checkpoints/best.safetensors", run / "checkpoints/best.safetensors")
    code, errors = TrainProcess(root, "--resume", run.name).finish()
    assert code == 2
    assert "is finished" in errors


@pytest.mark.slow(3)
def test_resuming_on_changed_data_is_refused(nanocv: Command, project: Path, tiny_set: Path) -> None:
    assert nanocv("train", "--data", tiny_set, *SETS, "--out", "run").code == 0
    (project / "run" / "summary.json").unlink()
    next((tiny_set / "train" / "red").iterdir()).unlink()
    outcome = nanocv("train", "--resume", "run")
    assert outcome.code == 2
    assert "has changed since" in outcome.err
