"""Run folders as a training leaves them, without a training."""

import json
import os
from pathlib import Path

import numpy as np
import safetensors.numpy

from nanocv_cli.training.state import STATE_KEY, TrainingState

DAY = 86_400.0


def write_run(
    root: Path,
    name: str,
    score: float | None = None,
    *,
    age: float = 0,
    model: str = "lenet",
    task: str = "classification",
    data: str = "flowers",
    metric: str = "top1",
    is_told: bool = True,
) -> Path:
    """A finished run, `age` days old; `is_told`: its summary names the metric that counts, as runs of today do."""
    folder = write_begun_run(root, name, model=model, task=task, data=data)
    summary = {"model": model, "data": data, "epochs": 5, "seconds": 61.5, "split": "test",
               "metrics": {"loss": 0.1, metric: score}} | ({"metric": metric} if is_told else {})  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    written = 1e9 - age * DAY
    os.utime(folder / "summary.json", (written, written))
    return folder


def write_begun_run(
    root: Path, name: str, *, model: str = "lenet", task: str = "classification", data: str = "flowers"
) -> Path:
    """A run that has learnt nothing yet."""
    folder = root / "runs" / name
    folder.mkdir(parents=True)
    (folder / "run.lock").touch()
    (folder / "config.yaml").write_text(
        f"data:\n  name: {data}\nmodel:\n  name: {model}\n  task: {task}\ntrain:\n  epochs: 5\n"
    )
    return folder


def write_interrupted_run(root: Path, name: str, state: TrainingState) -> Path:
    """A run that was stopped where `state` stands."""
    folder = write_begun_run(root, name)
    (folder / "checkpoints").mkdir()
    safetensors.numpy.save_file(
        {"network:weight": np.zeros(3, np.float32)},
        folder / "checkpoints" / "last.safetensors",
        {STATE_KEY: json.dumps(vars(state))},
    )
    return folder
