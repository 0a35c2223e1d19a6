"""What one training works with; nothing in it is replaced while it runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nanocv_cli import __version__
from nanocv_cli.config.loader import config_hash
from nanocv_cli.config.schema import RunConfig
from nanocv_cli.data.cache import cached_split
from nanocv_cli.data.dataset import Dataset
from nanocv_cli.display import Display
from nanocv_cli.inference.card import ModelCard
from nanocv_cli.tasks.base import Metrics, Task
from nanocv_cli.tasks.registry import task_for
from nanocv_cli.training.distributed import Team
from nanocv_cli.training.run_directory import RunDirectory

WARNINGS_SHOWN = 10


@dataclass(frozen=True)
class Pictures:
    """One cached split: uint8 [n,S,S,3] and its targets [n,...]."""

    images: NDArray[np.uint8]
    targets: NDArray[Any]


@dataclass(frozen=True)
class Session:
    """One training.

    Attributes:
        config: the resolved config.
        run: the run folder; written by the team's leader alone.
        dataset: pictures and labels.
        cache: folder of decoded pictures.
        device: where this process learns.
        display: where it tells of it.
        team: the processes that train together.
    """

    config: RunConfig
    run: RunDirectory
    dataset: Dataset[Any]
    cache: Path
    device: torch.device
    display: Display
    team: Team

    @property
    def task(self) -> Task:
        """The model's task."""
        return task_for(self.config.model.task)

    def pictures(self, split: str, size: int) -> Pictures:
        """One split at one size, decoded by the leader where it is not in the cache yet."""
        resize = self.config.model.resize
        return self.team.leader_first(
            lambda: load_split(self.dataset, split, self.task, self.cache, size, resize, self.display)
        )

    def card(self, metrics: Metrics, split: str) -> ModelCard:
        """The card of weights that this session trained, measured on `split`."""
        return ModelCard(
            name=self.config.model.name,
            task=self.config.model.task,
            classes=self.dataset.classes,
            input_size=self.config.model.input_size,
            resize=self.config.model.resize,
            data=self.dataset.name,
            config=self.config.model_dump(mode="json", include={"data", "model", "train"}),
            config_hash=config_hash(self.config),
            metrics=metrics,
            split=split,
            version=__version__,
        )


def load_split(
    dataset: Dataset[Any], split: str, task: Task, cache: Path, size: int, resize: str, display: Display
) -> Pictures:
    """Maps one split's pictures, decoding them at first use, and says which could not be read."""
    samples = dataset.split(split)
    with display.bar(f"decoding {split}") as progress:
        cached = cached_split(cache, samples, size, resize, progress, display.say)
    for path, reason in cached.unreadable[:WARNINGS_SHOWN]:
        display.say(f"warning: left out of {split}: {path}: {reason}")
    if len(cached.unreadable) > WARNINGS_SHOWN:
        display.say(f"warning: {len(cached.unreadable)} unreadable pictures in {split}; nanocv data check names all")
    kept = [samples[place] for place in cached.kept]
    return Pictures(cached.images, task.targets(kept, size, resize, cache, display.say))
