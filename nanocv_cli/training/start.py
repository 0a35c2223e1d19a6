"""What a training starts from other than random weights: layers of another checkpoint, as far as they fit.

A layer (a convolution, a norm: the tensors that one module owns) is taken whole, by name and shape, or not at all.
What depends on the classes (the head) is taken only where they are the same, by their names and order. Where no name
fits, the checkpoint is tried as a part of the network: a classifier starts the backbone of a detector.
The run keeps a record of it and its first state, so that a resume needs the checkpoint no more.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from nanocv_cli import __version__
from nanocv_cli.config.located import Located
from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.engine.card import METADATA_KEY, ModelCard
from nanocv_cli.errors import ModelError, RequestError
from nanocv_cli.files import write_json
from nanocv_cli.foreign import read_json
from nanocv_cli.models.checkpoint import load_tensors, model_config, read_card
from nanocv_cli.models.registry import build_model, without_weights
from nanocv_cli.training.state import STATE_KEY
from nanocv_cli.untrusted import open_regular, printable

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
MOST_NAMED = 3  # layers in a message
DEEPEST = 3  # modules around the one that is started: `network.backbone.body`

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Counts:
    """How many tensors, and how many parameters are in them; the statistics of norms are none."""

    tensors: int
    parameters: int


@dataclass(frozen=True)
class Start:
    """What a network took over.

    Attributes:
        reference: what the user named.
        checkpoint: the file.
        sha256: of that file, hex digits.
        model: name of the model in it; empty where the file has no model card.
        within: name of the network's module that was started; empty: the network.
        names: of the network's tensors whose values are the checkpoint's.
        taken: how many those are.
        new: the network's others.
        new_layers: names of the layers that these are of.
        left: the checkpoint's tensors that were not taken.
    """

    reference: str
    checkpoint: str
    sha256: str
    model: str
    within: str
    names: list[str]
    taken: Counts
    new: Counts
    new_layers: list[str]
    left: Counts

    def summary(self) -> dict[str, Any]:
        """As a run's `summary.json` has it: without the names of tensors."""
        return {key: value for key, value in asdict(self).items() if key != "names"}

    def lines(self, rate: float) -> list[str]:
        """What was taken and what was not, for people.

        Args:
            rate: factor of the learning rate of what was taken.
        """
        what = f" ({self.model})" if self.model and self.model != self.reference else ""
        where = f" as {self.within}" if self.within else ""
        told = f"started from {self.reference}{what}{where}: {_text(self.taken)} taken, at {rate:g} of the rate"
        others = []
        if self.new.tensors:
            named = ", ".join(self.new_layers[:MOST_NAMED])
            more = len(self.new_layers) - MOST_NAMED
            others.append(f"new: {_text(self.new)}, in {named}{f' and {more} more' if more > 0 else ''}")
        if self.left.tensors:
            others.append(f"left behind: {_text(self.left)}")
        return [told, "; ".join(others)] if others else [told]


_RECORD = TypeAdapter(Start)


def card_model(checkpoint: Path, reference: str) -> Located:
    """The model section of a checkpoint's card, for a training that names no model of its own.

    Raises:
        RequestError: it has no card.
        ModelError: it is damaged, or newer than this nanocv.
    """
    _, metadata = _open(checkpoint)
    if METADATA_KEY not in metadata:
        raise RequestError(f"{reference} does not say which model it is", "name one of its architecture: --model NAME")
    config = model_config(read_card(checkpoint), checkpoint)
    return Located(config.model_dump(mode="json"), {}, f"model card of {checkpoint}")


def take(checkpoint: Path, reference: str, network: nn.Module, model: ModelConfig, classes: tuple[str, ...]) -> Start:
    """Puts a checkpoint's layers into a network, wherever they fit.

    Args:
        checkpoint: a `.safetensors` file with or without model card, or the training state of a run: of that the
            moving average, where there is one.
        reference: what the user named.
        network: takes them over, in its own type and on its device.
        model: its config.
        classes: names of those it shall know.

    Raises:
        ModelError: the file is damaged, or newer than this nanocv.
        RequestError: nothing of it fits.
    """
    found, metadata = _open(checkpoint)
    card = ModelCard.from_metadata(metadata, str(checkpoint)) if METADATA_KEY in metadata else None
    own = network.state_dict()
    within, found = _placed(found, own)
    taken = _fitting(found, own)
    if card is None or card.classes != classes:
        strange = _class_layers(own, model, len(classes))
        taken = {name for name in taken if _layer(name) not in strange}
    if not any(own[name].ndim > 1 for name in taken):
        what, hint = "no model card to say what it is", "name a model of its architecture: --model NAME"
        if card:
            what = printable(model_config(card, checkpoint).architecture, 60)
            hint = (
                "leave --model out to go on with the checkpoint's own, or name one with its architecture and model.args"
            )
        raise RequestError(f"nothing of {reference} ({what}) fits {model.name} ({model.architecture})", hint)
    with torch.no_grad():
        for name in taken:
            own[name].copy_(found[name])
    new = {name: tensor for name, tensor in own.items() if name not in taken}
    with open_regular(checkpoint) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Start(
        reference=reference,
        checkpoint=str(checkpoint),
        sha256=digest,
        model=card.name if card else "",
        within=within,
        names=sorted(taken),
        taken=_counts({name: own[name] for name in taken}),
        new=_counts(new),
        new_layers=list(dict.fromkeys(map(_layer, new))),
        left=_counts({name: tensor for name, tensor in found.items() if name not in taken}),
    )


def write_start(path: Path, start: Start) -> None:
    """Keeps the record in a run folder, atomically."""
    write_json(path, asdict(start))


def read_start(path: Path) -> Start:
    """Reads back what `write_start` wrote.

    Raises:
        DataError: it is not there, or damaged.
    """
    return read_json(path, _RECORD, "start a new run")


def _open(checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors that a checkpoint would answer with, and its metadata."""
    tensors, metadata = load_tensors(checkpoint)
    written = _version(metadata)
    if _numbers(written) > _numbers(__version__):
        raise ModelError(
            f"{checkpoint} was written by nanocv {written}, which is newer than this {__version__}",
            "pip install --upgrade nanocv",
        )
    if STATE_KEY in metadata:
        groups = {name.partition(":")[0] for name in tensors}
        kept = "average:" if "average" in groups else "network:"
        tensors = {name.removeprefix(kept): tensor for name, tensor in tensors.items() if name.startswith(kept)}
    return tensors, metadata


def _version(metadata: Mapping[str, str]) -> str:
    """Of the nanocv that wrote a file, as far as it says; what is wrong in a card is told when it is read."""
    try:
        version = json.loads(metadata.get(METADATA_KEY, "{}"))["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return version if isinstance(version, str) else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d{1,9}", version)[:3]))


def _placed(found: Tensors, own: Tensors) -> tuple[str, dict[str, Tensor]]:
    """The checkpoint's tensors by the names they have in the network, and the module that they are a part of there.

    Of the checkpoint it is the whole or one module (`features`), of the network one no more than `DEEPEST` down.
    """
    parts: dict[str, list[str]] = {}
    for name in found:
        first, _, rest = name.partition(".")
        parts.setdefault(name, []).append("")
        parts.setdefault(rest, []).append(f"{first}.")
    votes: Counter[tuple[str, str]] = Counter()
    for name, tensor in own.items():
        modules = name.split(".")[:-1]
        for depth in range(min(len(modules), DEEPEST) + 1 if tensor.ndim > 1 else 0):
            module = "".join(f"{inner}." for inner in modules[:depth])
            rest = name.removeprefix(module)
            votes.update((part, module) for part in parts.get(rest, ()) if found[part + rest].shape == tensor.shape)
    if not votes or ("", "") in votes:
        return "", dict(found)
    part, module = max(votes, key=lambda pair: votes[pair])
    placed = {
        f"{module}{name.removeprefix(part)}" if name.startswith(part) else name: tensor
        for name, tensor in found.items()
    }
    return module.removesuffix("."), placed


def _fitting(found: Tensors, own: Tensors) -> set[str]:
    """The names of the network's tensors whose whole layer is there, in its shapes and kinds."""
    strange = {
        _layer(name)
        for name, tensor in own.items()
        if name not in found
        or found[name].shape != tensor.shape
        or found[name].is_floating_point() != tensor.is_floating_point()
    }
    return {name for name in own if _layer(name) not in strange}


def _class_layers(own: Tensors, model: ModelConfig, classes: int) -> set[str]:
    """The layers whose shapes depend on the number of classes."""
    plain = model.model_copy(update={"pretrained": False})
    wider = without_weights(lambda: build_model(plain, classes + 1)).state_dict()
    return {_layer(name) for name, tensor in own.items() if wider[name].shape != tensor.shape}


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _counts(tensors: Tensors) -> Counts:
    parameters = (tensor.numel() for name, tensor in tensors.items() if name.rpartition(".")[2] not in STATISTICS)
    return Counts(len(tensors), sum(parameters))


def _text(counts: Counts) -> str:
    return f"{counts.tensors} tensor{'' if counts.tensors == 1 else 's'} of {counts.parameters:,} parameters"
