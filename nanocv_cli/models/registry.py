"""One door to every network: a task's room names those of its own and who builds torchvision's and timm's for it.

A network is built with its weights, or without memory: parameters exist as shapes only, whatever their size.
"""

from collections.abc import Callable, Mapping, Sequence
from pkgutil import resolve_name
from typing import Any, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from nanocv_cli.config.nearest import nearest
from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.errors import ConfigError
from nanocv_cli.rooms import room, task_names

# From a model config and the number of classes.
Builder = Callable[[ModelConfig, int], nn.Module]

# What layers make their parameters with. Everything else a builder computes (regnet's widths, Swin's window indices)
# runs as it stands, for builders read values from it.
FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}


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
    own = room(config.task)
    if config.source != "nanocv":
        path = own.torchvision if config.source == "torchvision" else own.timm
        if path is None:
            raise ConfigError(
                f"model.source is {config.source}, which has no networks for {config.task}",
                "--set model.source=nanocv, or choose another model",
            )
        return _builder(path)(config, classes)
    networks = own.networks
    if config.architecture not in networks:
        raise _no_such_network(config)
    return _builder(networks[config.architecture])(config, classes)


def expect_multiple(config: ModelConfig, multiple: int, why: str) -> None:
    """Makes sure that a network can read images of its config's size.

    Args:
        config: of the model.
        multiple: what its input size must be a multiple of, pixels.
        why: what the network does that asks for it, for the message.

    Raises:
        ConfigError: it is none.
    """
    size = config.input_size
    if size % multiple:
        raise ConfigError(
            f"model.input_size is {size}; {config.architecture} {why} and needs a multiple of {multiple}",
            f"--set model.input_size={max(multiple, size // multiple * multiple)}",
        )


def _builder(path: str) -> Builder:
    return cast(Builder, resolve_name(path))


def _no_such_network(config: ModelConfig) -> ConfigError:
    """What to say of an architecture that is another task's, or none at all."""
    tasks = {network: task for task in task_names() for network in room(task).networks}
    if config.architecture in tasks:
        task = tasks[config.architecture]
        fitting = [network for network, one in tasks.items() if one == config.task]
        return ConfigError(
            f"model.task is {config.task}; {config.architecture} is for {task}",
            f"--set model.task={task}, or a model for {config.task}: {', '.join(fitting)}",
        )
    near = nearest(config.architecture, list(tasks))
    return ConfigError(
        f"model.architecture is {config.architecture!r}; nanocv has {', '.join(tasks)}",
        near or "set source: torchvision or timm for one of theirs",
    )


class _ParametersOnMeta(TorchFunctionMode):
    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if function in FACTORIES and options.get("device") is None:
            options["device"] = "meta"
        return function(*args, **options)


def without_weights(build: Callable[[], nn.Module]) -> nn.Module:
    """Calls a builder so that what it returns holds no values: every parameter and buffer is on torch's meta device.

    Returns:
        the module in evaluation mode.
    """
    with _ParametersOnMeta():
        network = build()
    return network.to("meta").eval()
