"""Checkpoints as `.safetensors`: finished weights with a model card, and the whole training state for resuming."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.errors import ConfigError, ModelError
from nanocv_cli.files import atomic_path
from nanocv_cli.inference.card import ModelCard
from nanocv_cli.models.registry import build_model
from nanocv_cli.models.weightless import weightless
from nanocv_cli.untrusted import first_line

STATE_KEY = "nanocv.training"


@dataclass
class TrainingState:
    """Where a training stands, apart from its tensors.

    Attributes:
        epoch: the epoch under way, from 0.
        step: batches of that epoch already learnt.
        loss_sum: sum of their losses, each times its pictures.
        hits: pictures of them that were right.
        seen: pictures of them.
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


def save_weights(path: Path, state: dict[str, Tensor], card: ModelCard) -> None:
    """Writes a network's state with its card, atomically."""
    _save(path, state, card.to_metadata())


def save_training(path: Path, groups: dict[str, dict[str, Tensor]], state: TrainingState) -> None:
    """Writes the training state atomically; `groups` are named sets of tensors, stored as `group:name`."""
    tensors = {f"{group}:{name}": tensor for group, members in groups.items() for name, tensor in members.items()}
    _save(path, tensors, {STATE_KEY: json.dumps(vars(state), allow_nan=False)})


def _save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    with atomic_path(path) as temporary:
        content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        try:
            # Serialised in memory first: the file library reports a full disk as its own error, Python as OSError.
            temporary.write_bytes(safetensors.torch.save(content, metadata))
        finally:
            del content


def load_training(path: Path) -> tuple[dict[str, dict[str, Tensor]], TrainingState]:
    """Reads back what `save_training` wrote.

    Raises:
        ModelError: the file is damaged or no training state.
    """
    tensors, metadata = _load(path)
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


def load_network(path: Path) -> tuple[nn.Module, ModelConfig, ModelCard]:
    """Rebuilds a network from its checkpoint alone, in evaluation mode on the CPU.

    Raises:
        ModelError: the file is damaged, not ours, or its tensors do not fit the architecture its card names.
    """
    tensors, metadata = _load(path)
    card = ModelCard.from_metadata(metadata, str(path))
    config = model_config(card, path)
    try:
        # As shapes first: what a card asks for may be larger than any memory.
        expected = weightless(lambda: build_model(config, len(card.classes))).state_dict()
        if wrong := _misfit(expected, tensors):
            raise ValueError(wrong)
        network = build_model(config, len(card.classes))
        network.load_state_dict(tensors)
    except (ConfigError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{path} does not fit the architecture its card names: {first_line(error)}",
            "it may come from another nanocv version; train again or use the matching version",
        ) from error
    return network.eval(), config, card


def _misfit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """The first tensor that is missing, not expected, or of another shape, in words; empty where all fit."""
    for name in sorted(expected.keys() ^ found.keys()):
        return f"{name} is {'missing' if name in expected else 'not expected'}"
    for name, tensor in expected.items():
        if tensor.shape != found[name].shape:
            return f"{name} has shape {list(found[name].shape)}, not {list(tensor.shape)}"
    return ""


def model_config(card: ModelCard, origin: Path) -> ModelConfig:
    """The model config in a card, with weights to come from the file alone.

    Args:
        card: the card.
        origin: its file, for the message.

    Raises:
        ModelError: there is none that this nanocv knows, or it contradicts the card.
    """
    try:
        config = ModelConfig.model_validate_json(json.dumps({**card.config["model"], "pretrained": False}))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{origin}: its model card is damaged: it holds no model config", "train it again") from error
    if (config.task, config.input_size, config.resize) != (card.task, card.input_size, card.resize):
        raise ModelError(f"{origin}: its model card is damaged: it contradicts its model config", "train it again")
    return config


def read_card(path: Path) -> ModelCard:
    """A checkpoint's card.

    Raises:
        ModelError: the file is damaged or carries no card.
    """
    return ModelCard.from_metadata(_load(path)[1], str(path))


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise ModelError(f"no checkpoint {path}", "nanocv train writes checkpoints under runs/")
    try:
        with safetensors.safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"{path} ({path.stat().st_size} bytes) is no whole .safetensors file: {first_line(error)}",
            "use another checkpoint, or train again",
        ) from error
