"""What a reference to a torch model stands for: how to build it and what to feed it, with memory or without."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models

from nanocv_cli.analysis.layer import Model
from nanocv_cli.analysis.torch_trace import trace
from nanocv_cli.config.loader import resolve
from nanocv_cli.config.lookup import TIMM
from nanocv_cli.config.project import shown
from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.config.torchvision_names import TORCHVISION_CLASSIFIERS, TORCHVISION_DETECTORS, TORCHVISION_SEGMENTERS
from nanocv_cli.engine.reference import find_checkpoint
from nanocv_cli.errors import ConfigError, RequestError
from nanocv_cli.models.checkpoint import model_config, read_card
from nanocv_cli.models.registry import build_model, without_weights
from nanocv_cli.untrusted import first_line

# torchvision counted its detectors on images of this size, which their own transforms then resize.
DETECTOR_INPUT = 512


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
    is_timm = query.ref is not None and query.ref.startswith(TIMM)
    is_name = query.ref is None or (len(Path(query.ref).parts) == 1 and not Path(query.ref).suffix) or is_timm
    if (is_open and not is_timm) or not is_name:
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


@dataclass(frozen=True)
class Published:
    """What torchvision says of a network.

    Attributes:
        macs: for one image, rounded to a million by torchvision (`_ops`, in GMACs there).
        params: trainable values.
        input_size: side of the image that it was counted on.
        classes: that its published weights tell apart.
    """

    macs: float
    params: int
    input_size: int
    classes: int


def published(name: str) -> Published:
    """torchvision's own figures for the default weights of a network."""
    weights = models.get_model_weights(name).DEFAULT
    preset = weights.transforms()
    if hasattr(preset, "crop_size"):
        size = preset.crop_size[0]
    else:
        size = preset.resize_size[0] if hasattr(preset, "resize_size") else DETECTOR_INPUT
    meta = weights.meta
    return Published(meta["_ops"] * 1e9, meta["num_params"], size, len(meta["categories"]))


def is_published(name: str) -> bool:
    """Whether torchvision has a classifier, detector or segmenter of this name."""
    return name in TORCHVISION_CLASSIFIERS + TORCHVISION_DETECTORS + TORCHVISION_SEGMENTERS


def build_published(name: str, input_size: int, classes: int) -> nn.Module:
    """The network as its published weights need it, with weights of no meaning; nothing is downloaded."""
    options: dict[str, Any] = {"num_classes": classes}
    if name in TORCHVISION_DETECTORS + TORCHVISION_SEGMENTERS:
        options["weights_backbone"] = None
    if name.startswith(("deeplabv3_", "fcn_")):
        options["aux_loss"] = True
    elif name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": True, "init_weights": False}
    elif name.startswith("vit_"):
        options["image_size"] = input_size
    elif name.startswith("maxvit_"):
        options["input_size"] = (input_size, input_size)
    network: nn.Module = models.get_model(name, weights=None, **options)
    if name in TORCHVISION_DETECTORS:
        # Boxes and masks are put back into the original image by the host: no arithmetic of the network.
        network.transform.postprocess = lambda found, *sizes: found  # type: ignore[union-attr]
    return network


def published_inputs(name: str, input_size: int, device: str, batch: int) -> tuple[Any, ...]:
    """What the network's forward takes for a batch; a detector takes a list of images."""
    images = torch.empty(batch, 3, input_size, input_size, device=device)
    return (list(images),) if name in TORCHVISION_DETECTORS else (images,)
