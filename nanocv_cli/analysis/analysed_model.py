"""What a reference to a torch model stands for: how to build it and what to feed it, with memory or without."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nanocv_cli.analysis.layer import Model
from nanocv_cli.analysis.torch_trace import trace
from nanocv_cli.analysis.torchvision_networks import build_published, is_published, published, published_inputs
from nanocv_cli.config.loader import resolve
from nanocv_cli.config.project import shown
from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.engine.reference import find_checkpoint
from nanocv_cli.errors import ConfigError, RequestError
from nanocv_cli.models.checkpoint import model_config, read_card
from nanocv_cli.models.registry import build_model, without_weights
from nanocv_cli.untrusted import first_line


@dataclass(frozen=True)
class AnalysedModel:
    """A torch model to analyse.

    Attributes:
        name: for people.
        input_size: side of the square image.
        build: makes the network; its weights mean nothing.
        inputs: what its forward takes, on a device, for a batch.
    """

    name: str
    input_size: int
    build: Callable[[], nn.Module]
    inputs: Callable[[str, int], tuple[Any, ...]]


@dataclass(frozen=True)
class Query:
    """What the user said of the model: None for what was left open."""

    ref: str | None = None
    data: str | None = None
    classes: int | None = None
    input_size: int | None = None
    overrides: tuple[str, ...] = ()


def find_analysed_model(query: Query, root: Path) -> AnalysedModel:
    """A trained model (run, checkpoint, pulled weights: its own classes), else a torchvision network as published,
    else what a model config describes, with the classes of the data set.

    Raises:
        RequestError: nothing of that name, or its classes are unknown.
        ModelError: a checkpoint is damaged.
    """
    is_open = not query.overrides and query.classes is None and query.data is None and query.input_size is None
    is_name = query.ref is None or (len(Path(query.ref).parts) == 1 and not Path(query.ref).suffix)
    if is_open or not is_name:
        try:
            return _of_checkpoint(find_checkpoint(query.ref, root), query)
        except RequestError:
            if not is_name:
                raise
    if query.ref and is_published(query.ref) and not query.overrides and query.data is None:
        return _of_publisher(query.ref, query)
    return _of_config(query)


def analyse(analysed: AnalysedModel) -> Model:
    """Traces a subject on shapes alone.

    Raises:
        ConfigError: the network cannot read images of this size.
    """
    try:
        network = without_weights(analysed.build)
        inputs = analysed.inputs("meta", 1)
        layers, assumptions = trace(network, inputs)
        least = trace(network, inputs, scores_pass=False)[0] if assumptions else None
    except (RuntimeError, ValueError, AssertionError) as error:  # torch and torchvision have no tree of their own
        raise ConfigError(
            f"{analysed.name} cannot read {analysed.input_size}x{analysed.input_size} images: {first_line(error)}",
            "--input-size 224",
        ) from error
    return Model(
        name=analysed.name,
        inputs=(f"images float [1,3,{analysed.input_size},{analysed.input_size}]",),
        layers=layers,
        params=sum(parameter.numel() for parameter in network.parameters()),
        assumptions=assumptions,
        least_macs=sum(layer.macs for layer in least) if least is not None else None,
    )


def _of_checkpoint(path: Path, query: Query) -> AnalysedModel:
    if query.classes is not None or query.input_size is not None or query.overrides:
        raise RequestError(
            f"{path} has its classes and input size already", "leave out --classes, --input-size and --set"
        )
    card = read_card(path)
    config = model_config(card, path)
    return _of_model_config(f"{card.name} ({shown(path)})", config, len(card.classes))


def _of_config(query: Query) -> AnalysedModel:
    sizes: Sequence[str] = [] if query.input_size is None else [f"model.input_size={query.input_size}"]
    config = resolve(query.data, query.ref, overrides=[*query.overrides, *sizes]).config
    count = query.classes or len(config.data.classes or ())
    if not count:
        raise RequestError(f"the data config {config.data.name} does not name its classes", "--classes N")
    model = config.model.model_copy(update={"pretrained": False})
    return _of_model_config(f"{config.model.name} with {count} classes", model, count)


def _of_model_config(name: str, config: ModelConfig, classes: int) -> AnalysedModel:
    size = config.input_size
    return AnalysedModel(
        name,
        size,
        lambda: build_model(config, classes),
        lambda device, batch: (torch.empty(batch, 3, size, size, device=device),),
    )


def _of_publisher(name: str, query: Query) -> AnalysedModel:
    its_own = published(name)
    size, classes = query.input_size or its_own.input_size, query.classes or its_own.classes
    return AnalysedModel(
        f"{name} as published by torchvision, {classes} classes",
        size,
        lambda: build_published(name, size, classes),
        lambda device, batch: published_inputs(name, size, device, batch),
    )
