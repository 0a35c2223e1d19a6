"""One door to every architecture: nanocv's own by an explicit table, torchvision's by their names there."""

import difflib
from collections.abc import Callable

from torch import nn

from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.errors import ConfigError
from nanocv_cli.models.lenet import LeNet
from nanocv_cli.models.nanodet import NanoDet
from nanocv_cli.models.nanoflow import NanoFlow
from nanocv_cli.models.nanores import NanoRes
from nanocv_cli.models.nanoseg import NanoSeg
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
    """The picture size of a network that works on a grid of 16x16 patches."""
    if config.input_size % 16:
        raise ConfigError(
            f"model.input_size is {config.input_size}; {config.architecture} needs a multiple of 16",
            f"--set model.input_size={max(16, config.input_size // 16 * 16)}",
        )
    return config.input_size


ARCHITECTURES: dict[str, Builder] = {
    "lenet": lambda config, classes: LeNet(classes, _halved_five_times(config), config.dropout),
    "nanodet": lambda config, classes: NanoDet(classes, _halved_five_times(config)),
    "nanoflow": lambda config, classes: NanoFlow(classes, _sixteenths(config)),
    "nanoseg": lambda config, classes: NanoSeg(classes, dropout=config.dropout),
    "nanores": lambda config, classes: NanoRes(classes, dropout=config.dropout),
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
        ConfigError: no such architecture, or it cannot read pictures of `input_size`.
        ModelError: pretrained weights cannot be had.
    """
    if config.source == "torchvision":
        return TORCHVISION_BUILDERS[config.task](config, classes)
    if config.architecture not in ARCHITECTURES:
        near = difflib.get_close_matches(config.architecture, ARCHITECTURES, 1)
        raise ConfigError(
            f"model.architecture is {config.architecture!r}; nanocv has {', '.join(ARCHITECTURES)}",
            f"did you mean {near[0]}?" if near else "set source: torchvision for a torchvision classifier",
        )
    return ARCHITECTURES[config.architecture](config, classes)
