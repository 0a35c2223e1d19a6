"""The whole state of a training as `.safetensors`: what an interrupted run goes on from."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from nanocv_cli.errors import ModelError
from nanocv_cli.models.checkpoint import load_tensors, save_tensors

STATE_KEY = "nanocv.training"


@dataclass
class TrainingState:
    """Where a training stands, apart from its tensors.

    Attributes:
        epoch: the epoch under way, from 0.
        step: batches of that epoch already trained on.
        loss_sum: sum of their losses, each times its images.
        hits: images of them that were right.
        seen: images of them.
        seconds: spent on training steps so far, all epochs.
        best: value of the best epoch's metric so far.
        history: one row per finished epoch.
        fingerprint: of the data set.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    hits: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    best: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    fingerprint: str = ""

    def is_sound(self) -> bool:
        """Whether all values are of their kinds."""
        return (
            all(type(count) is int and count >= 0 for count in (self.epoch, self.step, self.seen))
            and all(type(value) in (int, float) for value in (self.loss_sum, self.hits, self.seconds))
            and (self.best is None or type(self.best) in (int, float))
            and isinstance(self.fingerprint, str)
            and isinstance(self.history, list)
            and all(isinstance(row, dict) for row in self.history)
        )

    def begin_next_epoch(self) -> None:
        """Moves to the start of the next epoch."""
        self.epoch, self.step, self.loss_sum, self.hits, self.seen = self.epoch + 1, 0, 0.0, 0.0, 0


def save_training(path: Path, groups: dict[str, dict[str, Tensor]], state: TrainingState) -> None:
    """Writes the training state atomically; `groups` are named sets of tensors, stored as `group:name`."""
    tensors = {f"{group}:{name}": tensor for group, members in groups.items() for name, tensor in members.items()}
    save_tensors(path, tensors, {STATE_KEY: json.dumps(vars(state), allow_nan=False)})


def load_training(path: Path) -> tuple[dict[str, dict[str, Tensor]], TrainingState]:
    """Reads back what `save_training` wrote.

    Raises:
        ModelError: the file is damaged or no training state.
    """
    tensors, metadata = load_tensors(path)
    try:
        state = TrainingState(**json.loads(metadata[STATE_KEY]))
        if not state.is_sound():
            raise ValueError("a value of the wrong kind")
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"{path} is no training state that can be resumed", "start a new run") from error
    groups: dict[str, dict[str, Tensor]] = {}
    for full_name, tensor in tensors.items():
        group, _, name = full_name.partition(":")
        groups.setdefault(group, {})[name] = tensor
    return groups, state
