"""The runs under `runs/`, finished or not, with what each of them says of itself; torch is not needed to look."""

import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nanocv_cli.config.yaml_lines import read_yaml
from nanocv_cli.engine.reference import SUMMARY, folders_with, read_summary
from nanocv_cli.errors import ConfigError, ModelError
from nanocv_cli.files import is_locked
from nanocv_cli.rooms import Score, room
from nanocv_cli.training.run_directory import LOCK, RunDirectory
from nanocv_cli.training.state import TrainingState, read_progress
from nanocv_cli.untrusted import is_plain

State = Literal["running", "interrupted", "finished"]


@dataclass(frozen=True)
class Run:
    """One run; None where it does not say.

    Attributes:
        name: path below `runs/`, with slashes.
        folder: the run folder.
        state: running: a process trains it; finished: it has a summary; interrupted: neither.
        model: the model's name.
        task: what the model is for.
        data: the data set's name.
        start: what it started from: the reference that was given; None too for random weights.
        metric: name of the metric that the task is evaluated by.
        score: its value: of the kept weights once the run is finished, else of the best epoch so far.
        split: what the score was measured on.
        law: how scores of this task compare; None where the task is not known here.
        epochs: trained for.
        epochs_asked: those that the run was begun for.
        seconds: spent on training steps.
        bytes: of all files in the folder.
        when: it was finished, or last written to; seconds since 1970.
    """

    name: str
    folder: Path
    state: State
    model: str | None
    task: str | None
    data: str | None
    start: str | None
    metric: str | None
    score: float | None
    split: str | None
    law: Score | None
    epochs: int | None
    epochs_asked: int | None
    seconds: float | None
    bytes: int
    when: float


def list_runs(root: Path) -> list[Run]:
    """All runs at any depth under `root/runs`, newest first."""
    runs = [read_run(folder, root) for folder in run_folders(root)]
    return sorted(runs, key=lambda run: (-run.when, run.name))


def run_folders(root: Path) -> list[Path]:
    """Their folders, unread: what a training left its lock or its summary in."""
    return list(folders_with((LOCK, SUMMARY), root / "runs"))


def run_name(folder: Path, root: Path) -> str:
    """How a run is called: its path below `root/runs`."""
    return folder.relative_to(root / "runs").as_posix()


def read_run(folder: Path, root: Path) -> Run:
    """What a run folder says; what cannot be read of it is None."""
    run = RunDirectory(folder)
    summary = read_summary(folder)
    state: State = "running" if is_locked(folder / LOCK) else "finished" if summary else "interrupted"
    asked = _asked(run)
    progress = TrainingState() if summary else _progress(run)
    task = asked.get("model.task")
    law = _law(task)
    metric = _text(summary.get("metric")) or (law.name if law else None)
    metrics = summary.get("metrics")
    score = metrics.get(metric) if isinstance(metrics, dict) else progress.best
    split = _text(summary.get("split")) if summary else "val"
    return Run(
        name=run_name(folder, root),
        folder=folder,
        state=state,
        model=_text(summary.get("model")) or asked.get("model.name"),
        task=task,
        data=_text(summary.get("data")) or asked.get("data.name"),
        start=asked.get("train.start"),
        metric=metric,
        score=_number(score),
        split=None if score is None else split,
        law=law,
        epochs=_count(summary.get("epochs")) if summary else progress.epoch,
        epochs_asked=_count(asked.get("train.epochs")),
        seconds=_number(summary.get("seconds")) if summary else progress.seconds,
        bytes=_bytes(folder),
        when=_when(run),
    )


def _asked(run: RunDirectory) -> dict[str, Any]:
    """What the run's config asks for, by dotted key; nothing where there is none yet, or it cannot be read."""
    try:
        config = read_yaml(run.config)
    except (ConfigError, OSError):
        return {}
    texts = {key: _text(config.value(key)) for key in ("model.name", "model.task", "data.name", "train.start")}
    return texts | {"train.epochs": config.value("train.epochs")}


def _progress(run: RunDirectory) -> TrainingState:
    """Where a training stands that is not finished: at its beginning where nothing was saved yet."""
    for path in (run.last, run.previous):
        with suppress(ModelError):
            return read_progress(path)
    return TrainingState()


def _law(task: str | None) -> Score | None:
    try:
        return room(task).score if task else None
    except ModelError:
        return None


def _when(run: RunDirectory) -> float:
    """The time of the first of these files that is there: what ends a run, what each epoch writes, what begins one."""
    for path in (run.summary, run.last, run.config, run.path):
        if path.exists():
            return path.stat().st_mtime
    return 0.0


def _bytes(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(place, name).lstat().st_size
            except OSError:  # a file that was there a moment ago
                continue
    return total


def _text(value: Any) -> str | None:
    return value if is_plain(value) else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None
