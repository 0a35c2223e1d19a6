"""What one training works with; nothing in it is replaced while it runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nanocv_cli import __version__
from nanocv_cli.config.loader import config_hash
from nanocv_cli.config.schema import RunConfig
from nanocv_cli.data.dataset import Dataset
from nanocv_cli.display import Display
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.evaluation.split import Split, load_split
from nanocv_cli.tasks.base import Metrics, Task
from nanocv_cli.tasks.table import task_for
from nanocv_cli.training.distributed import ProcessGroup
from nanocv_cli.training.run_directory import RunDirectory


@dataclass(frozen=True)
class TrainContext:
    """One training.

    Attributes:
        config: the resolved config.
        run: the run folder; written by the group's main process alone.
        dataset: images and labels.
        cache: folder of decoded images.
        device: where this process learns.
        display: where it tells of it.
        group: the processes that train together.
    """

    config: RunConfig
    run: RunDirectory
    dataset: Dataset[Any]
    cache: Path
    device: torch.device
    display: Display
    group: ProcessGroup

    @property
    def task(self) -> Task:
        """The model's task."""
        return task_for(self.config.model.task)

    def images(self, split: str, size: int) -> Split:
        """One split at one size, decoded by the leader where it is not in the cache yet."""
        resize = self.config.model.resize
        return self.group.leader_first(
            lambda: load_split(self.dataset, split, self.task, self.cache, size, resize, self.display)
        )

    def card(self, metrics: Metrics, split: str) -> ModelCard:
        """The card of weights that this context trained, measured on `split`."""
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
