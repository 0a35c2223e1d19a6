"""Where a training stands, apart from its tensors: read from its last checkpoint without torch."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanocv_cli.errors import ModelError
from nanocv_cli.untrusted import open_regular

STATE_KEY = "nanocv.training"
LENGTH_BYTES = 8  # a `.safetensors` file begins with the length of its header, which is JSON
LARGEST_HEADER = 100_000_000  # bytes, the format's own bound


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
        images: how many of each split could be read when the run began.
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
    images: dict[str, int] = field(default_factory=dict)

    def is_sound(self) -> bool:
        """Whether all values are of their kinds."""
        return (
            all(type(count) is int and count >= 0 for count in (self.epoch, self.step, self.seen))
            and all(type(value) in (int, float) for value in (self.loss_sum, self.hits, self.seconds))
            and (self.best is None or type(self.best) in (int, float))
            and isinstance(self.fingerprint, str)
            and isinstance(self.history, list)
            and all(isinstance(row, dict) for row in self.history)
            and isinstance(self.images, dict)
            and all(type(count) is int for count in self.images.values())
        )

    def begin_next_epoch(self) -> None:
        """Moves to the start of the next epoch."""
        self.epoch, self.step, self.loss_sum, self.hits, self.seen = self.epoch + 1, 0, 0.0, 0.0, 0


def read_progress(path: Path) -> TrainingState:
    """What the last checkpoint of a training says of it; the tensors are not read.

    Raises:
        ModelError: the file is damaged or no training state.
    """
    try:
        with open_regular(path) as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            metadata = json.loads(file.read(min(length, LARGEST_HEADER)))["__metadata__"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path} is no whole .safetensors file", "start a new run") from error
    return state_of(path, metadata)


def state_of(path: Path, metadata: dict[str, str]) -> TrainingState:
    """The state in a checkpoint's metadata.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    try:
        state = TrainingState(**json.loads(metadata[STATE_KEY]))
        if not state.is_sound():
            raise ValueError("a value of the wrong kind")
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"{path} is no training state that can be resumed", "start a new run") from error
    return state
