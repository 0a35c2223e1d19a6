"""nanocv's own networks, each made from a model config; `rooms.py` says which task each is for.

Its `args` are of the class that `rooms.py` names beside the network: the config was validated so.
"""

from typing import cast

from torch import nn

from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.errors import ConfigError
from nanocv_cli.models.arguments import LeNetArgs, NanoFlowArgs, NanoResArgs, NanoSegArgs, NanoSpotArgs
from nanocv_cli.models.lenet import LeNet
from nanocv_cli.models.nanoflow import NanoFlow
from nanocv_cli.models.nanores import NanoRes
from nanocv_cli.models.nanoseg import NanoSeg
from nanocv_cli.models.nanospot import NanoSpot


def lenet(config: ModelConfig, classes: int) -> nn.Module:
    """LeNet.

    Raises:
        ConfigError: its input size is no multiple of 32, as for all that halve their input five times.
    """
    return LeNet(classes, _input_size(config, 32, "halves its input five times"), cast(LeNetArgs, config.args))


def nanores(config: ModelConfig, classes: int) -> nn.Module:
    """NanoRes, for images of any size."""
    return NanoRes(classes, cast(NanoResArgs, config.args))


def nanospot(config: ModelConfig, classes: int) -> nn.Module:
    """NanoSpot.

    Raises:
        ConfigError: its input size is no multiple of 32.
    """
    return NanoSpot(classes, _input_size(config, 32, "halves its input five times"), cast(NanoSpotArgs, config.args))


def nanoseg(config: ModelConfig, classes: int) -> nn.Module:
    """NanoSeg, for images of any size."""
    return NanoSeg(classes, cast(NanoSegArgs, config.args))


def nanoflow(config: ModelConfig, classes: int) -> nn.Module:
    """NanoFlow.

    Raises:
        ConfigError: its image size is no multiple of 16.
    """
    return NanoFlow(
        classes, _input_size(config, 16, "works on a grid of 16x16 patches"), cast(NanoFlowArgs, config.args)
    )


def _input_size(config: ModelConfig, multiple: int, why: str) -> int:
    size = config.input_size
    if size % multiple:
        raise ConfigError(
            f"model.input_size is {size}; {config.architecture} {why} and needs a multiple of {multiple}",
            f"--set model.input_size={max(multiple, size // multiple * multiple)}",
        )
    return size
