"""What a tracker is to a training: it is told the whole story, from the first epoch to the model file."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nanocv_cli.config.schema import RunConfig
from nanocv_cli.tasks.evaluator import Metrics

Row = dict[str, Any]
Outcome = Literal["finished", "interrupted", "failed"]
LOGGED = ("train_loss", "train_score", "val_loss", "val_score", "learning_rate", "images_per_second")


@dataclass(frozen=True)
class Subject:
    """The run that is recorded.

    Attributes:
        folder: of the run.
        root: of the project.
        config: the resolved config.
        identity: 16 hex digits, the run's own and the same after a resume; empty where no tracker asks for them.
    """

    folder: Path
    root: Path
    config: RunConfig
    identity: str

    @property
    def name(self) -> str:
        """What the run is called."""
        return self.folder.resolve().name


@dataclass(frozen=True)
class Results:
    """What a training has reached.

    Attributes:
        epoch: the last one.
        metrics: of the kept weights on the held-out split.
        images: PNG files: curves, and what the task draws.
    """

    epoch: int
    metrics: Metrics
    images: tuple[Path, ...]

    def scalars(self) -> Iterator[tuple[str, float]]:
        """The metrics that are one number each, by their full names (`final/top1`)."""
        for name, value in self.metrics.items():
            if isinstance(value, int | float):
                yield f"final/{name}", float(value)


class Tracker(ABC):
    """One place where a training is recorded.

    Its calls come in the order of the story: `begin`, each epoch from the first one on, results, model, `end`. After a
    failure, or when a run is resumed, the story is told from the start: whatever is recorded already must not be there
    twice. Any exception of a call means that it has to be told again.

    Args:
        subject: the run.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    @abstractmethod
    def begin(self) -> str:
        """Begins the run there, or finds it again.

        Returns:
            where that is, for people; empty where it is the run folder.
        """

    @abstractmethod
    def add_epoch(self, row: Row) -> None:
        """Records one evaluated epoch: `LOGGED`, its number from 1 as `epoch`, when it ended as `time`."""

    @abstractmethod
    def add_results(self, results: Results) -> None:
        """Records what was reached."""

    def add_model(self, graph: Path, checkpoint: Path) -> None:
        """Records the model's files; nothing where files cannot be kept."""
        return

    def end(self, outcome: Outcome) -> str:
        """Says how the run ended.

        Returns:
            what people should know of it; empty where there is nothing.
        """
        return ""


def scalars(row: Row) -> Iterator[tuple[str, float]]:
    """The values of an epoch by name; those that it has not are left out."""
    for name in LOGGED:
        if row[name] is not None:
            yield name, float(row[name])
