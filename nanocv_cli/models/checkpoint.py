"""Weights as `.safetensors`: a network's finished weights with a model card, read back into the network they name."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from nanocv_cli.config.owners import model_class
from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.config.upgrade import upgraded_model
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.errors import ConfigError, ModelError
from nanocv_cli.files import atomic_path
from nanocv_cli.models.quantised import INT8, quantise_layers
from nanocv_cli.models.registry import build_model, without_weights
from nanocv_cli.untrusted import first_line

# Of the tensors' bytes: a file of the right length may still hold blocks that a power cut kept from the disk.
CHECKSUM_KEY = "nanocv.checksum"


def save_weights(path: Path, state: dict[str, Tensor], card: ModelCard) -> None:
    """Writes a network's state with its card, atomically."""
    save_tensors(path, state, card.to_metadata())


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str], former: Path | None = None) -> None:
    """Writes named tensors and texts as one `.safetensors` file, atomically; `former` is that of `atomic_path`."""
    with atomic_path(path, former) as temporary:
        content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        metadata = {**metadata, CHECKSUM_KEY: _checksum(content)}
        try:
            # Serialised in memory first: the file library reports a full disk as its own error, Python as OSError.
            temporary.write_bytes(safetensors.torch.save(content, metadata))
        finally:
            del content


def load_network(path: Path) -> tuple[nn.Module, ModelConfig, ModelCard]:
    """Rebuilds a network from its checkpoint alone, in evaluation mode on the CPU.

    Raises:
        ModelError: the file is damaged, not ours, or its tensors do not fit the architecture its card names.
    """
    tensors, metadata = load_tensors(path)
    card = ModelCard.from_metadata(metadata, str(path))
    config = model_config(card, path)
    try:
        # As shapes first: what a card asks for may be larger than any memory.
        expected = without_weights(lambda: _build(config, card)).state_dict()
        if wrong := _misfit(expected, tensors):
            raise ValueError(wrong)
        network = _build(config, card)
        network.load_state_dict(tensors)
    except (ConfigError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{path} does not fit the architecture its card names: {first_line(error)}",
            "it may come from another nanocv version; train again or use the matching version",
        ) from error
    return network.eval(), config, card


def _build(config: ModelConfig, card: ModelCard) -> nn.Module:
    """The network of a card, with the layers of its precision."""
    network = build_model(config, len(card.classes))
    return quantise_layers(network) if card.precision == INT8 else network


def _misfit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """The first tensor that is missing, not expected, or of another shape, in words; empty where all fit."""
    for name in sorted(expected.keys() ^ found.keys()):
        return f"{name} is {'missing' if name in expected else 'not expected'}"
    for name, tensor in expected.items():
        if tensor.shape != found[name].shape:
            return f"{name} has shape {list(found[name].shape)}, not {list(tensor.shape)}"
    return ""


def model_config(card: ModelCard, origin: Path | str) -> ModelConfig:
    """The model config in a card, with weights to come from the file alone.

    Args:
        card: the card.
        origin: its file, for the message.

    Raises:
        ModelError: there is none that this nanocv knows, or it contradicts the card.
    """
    try:
        document = {**upgraded_model(card.config["model"]), "pretrained": False}
        chosen = model_class(document.get("task", card.task), document.get("source"), document.get("architecture"))
        config = chosen.model_validate_json(json.dumps(document))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{origin}: its model card is damaged: it holds no model config", "train it again") from error
    if (config.task, config.input_size, config.resize) != (card.task, card.input_size, card.resize):
        raise ModelError(f"{origin}: its model card is damaged: it contradicts its model config", "train it again")
    return config


def read_card(path: Path) -> ModelCard:
    """A checkpoint's card.

    Raises:
        ModelError: the file is damaged or carries no card.
    """
    return ModelCard.from_metadata(load_tensors(path)[1], str(path))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a `.safetensors` file.

    Raises:
        ModelError: there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise ModelError(f"no checkpoint {path}", "nanocv train writes checkpoints under runs/")
    try:
        with safetensors.safe_open(path, "pt") as file:
            tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        if CHECKSUM_KEY in metadata and metadata[CHECKSUM_KEY] != _checksum(tensors):
            raise ValueError("its tensors are not those that were written")
        return tensors, metadata
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"{path} ({path.stat().st_size} bytes) is no whole .safetensors file: {first_line(error)}",
            "use another checkpoint, or train again",
        ) from error


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 over names and bytes of tensors on the CPU, 8 hex digits."""
    checksum = 0
    for name in sorted(tensors):
        content = tensors[name].reshape(-1).view(torch.uint8).numpy()
        checksum = zlib.crc32(content.data, zlib.crc32(name.encode(), checksum))
    return f"{checksum:08x}"
