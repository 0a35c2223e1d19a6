"""The whole state of a training as `.safetensors`: what an interrupted run goes on from."""

import json
from pathlib import Path

from torch import Tensor

from nanocv_cli.models.checkpoint import load_tensors, save_tensors
from nanocv_cli.training.progress import STATE_KEY, TrainingState, state_of


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
    state = state_of(path, metadata)
    groups: dict[str, dict[str, Tensor]] = {}
    for full_name, tensor in tensors.items():
        group, _, name = full_name.partition(":")
        groups.setdefault(group, {})[name] = tensor
    return groups, state
