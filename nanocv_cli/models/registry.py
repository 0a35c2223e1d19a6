"""One door to every architecture: nanocv's own by an explicit table, torchvision's by their names there."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from nanocv_cli.config.nearest import nearest
from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.errors import ConfigError
from nanocv_cli.models.lenet import LeNet
from nanocv_cli.models.nanoflow import NanoFlow
from nanocv_cli.models.nanores import NanoRes
from nanocv_cli.models.nanoseg import NanoSeg
from nanocv_cli.models.nanospot import NanoSpot
from nanocv_cli.models.torchvision_detectors import build_torchvision_detector
from nanocv_cli.models.torchvision_segmenters import build_torchvision_segmenter
from nanocv_cli.models.torchvision_zoo import build_torchvision

Builder = Callable[[ModelConfig, int], nn.Module]


def _halved_five_times(config: ModelConfig) -> int:
    """The input size of a network that halves its input five times."""
    if config.input_size % 32:
        raise ConfigError(
            f"model.input_size is {config.input_size}; {config.architecture} halves its input five times and needs a "
            "multiple of 32",
            f"--set model.input_size={max(32, config.input_size // 32 * 32)}",
        )
    return config.input_size


def _sixteenths(config: ModelConfig) -> int:
    """The image size of a network that works on a grid of 16x16 patches."""
    if config.input_size % 16:
        raise ConfigError(
            f"model.input_size is {config.input_size}; {config.architecture} needs a multiple of 16",
            f"--set model.input_size={max(16, config.input_size // 16 * 16)}",
        )
    return config.input_size


@dataclass(frozen=True)
class Architecture:
    """One of nanocv's own: the task it is for, and how it is built."""

    task: str
    build: Builder


ARCHITECTURES = {
    "lenet": Architecture(
        "classification", lambda config, classes: LeNet(classes, _halved_five_times(config), config.dropout)
    ),
    "nanospot": Architecture("detection", lambda config, classes: NanoSpot(classes, _halved_five_times(config))),
    "nanoflow": Architecture("generation", lambda config, classes: NanoFlow(classes, _sixteenths(config))),
    "nanoseg": Architecture("segmentation", lambda config, classes: NanoSeg(classes, dropout=config.dropout)),
    "nanores": Architecture("classification", lambda config, classes: NanoRes(classes, dropout=config.dropout)),
}


TORCHVISION_BUILDERS: dict[str, Builder] = {
    "classification": build_torchvision,
    "detection": build_torchvision_detector,
    "segmentation": build_torchvision_segmenter,
}


def build_model(config: ModelConfig, classes: int) -> nn.Module:
    """Builds the network of a model config, its head sized to the classes.

    Args:
        config: names the architecture and where it comes from.
        classes: number of classes.

    Returns:
        a module that reads normalised float [N, 3, S, S]; what it answers, the model's task says.

    Raises:
        ConfigError: no such architecture, or it cannot read images of `input_size`.
        ModelError: pretrained weights cannot be had.
    """
    if config.source == "torchvision":
        if config.task not in TORCHVISION_BUILDERS:
            raise ConfigError(
                f"model.source is torchvision, which has no networks for {config.task}",
                "--set model.source=nanocv, or choose another model",
            )
        return TORCHVISION_BUILDERS[config.task](config, classes)
    if config.architecture not in ARCHITECTURES:
        raise ConfigError(
            f"model.architecture is {config.architecture!r}; nanocv has {', '.join(ARCHITECTURES)}",
            nearest(config.architecture, ARCHITECTURES) or "set source: torchvision for a torchvision classifier",
        )
    chosen = ARCHITECTURES[config.architecture]
    if chosen.task != config.task:
        fitting = [name for name, one in ARCHITECTURES.items() if one.task == config.task]
        raise ConfigError(
            f"model.task is {config.task}; {config.architecture} is for {chosen.task}",
            f"--set model.task={chosen.task}, or a model for {config.task}: {', '.join(fitting)}",
        )
    return chosen.build(config, classes)
