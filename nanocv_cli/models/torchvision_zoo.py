"""torchvision's classifiers behind nanocv's door: by name, with a head of the right size."""

import urllib.error

import torch
from torch import nn
from torchvision import models

from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.errors import ConfigError, ModelError

# torchvision's own builders that need pictures of at least this size: four or five halvings plus a valid convolution.
SMALLEST_INPUT = {"inception_v3": 75, "alexnet": 63}


def build_torchvision(config: ModelConfig, classes: int) -> nn.Module:
    """Builds a torchvision classifier; with `pretrained`, its default weights but for the head.

    Raises:
        ConfigError: torchvision has no classifier of this name, or not for pictures of this size.
        ModelError: the pretrained weights cannot be downloaded.
    """
    name = config.architecture
    if name not in models.list_models(module=models):
        raise ConfigError(
            f"torchvision has no classifier {name!r}", f"it has: {', '.join(models.list_models(module=models))}"
        )
    if config.input_size < SMALLEST_INPUT.get(name, 32):
        raise ConfigError(
            f"model.input_size is {config.input_size}; {name} needs at least {SMALLEST_INPUT.get(name, 32)}",
            "--set model.input_size=224",
        )
    options: dict[str, object] = {}
    if name in ("inception_v3", "googlenet"):
        # Their auxiliary heads change the output's type while training; a small set does not need them.
        options = {} if config.pretrained else {"aux_logits": False, "init_weights": True}
    elif name.startswith("vit_"):
        options = {"image_size": config.input_size}
    elif name.startswith("maxvit_"):
        options = {"input_size": (config.input_size, config.input_size)}
    try:
        network: nn.Module = models.get_model(name, weights="DEFAULT" if config.pretrained else None, **options)
    except (urllib.error.URLError, OSError, TimeoutError) as error:
        reason = getattr(error, "reason", error)
        raise ModelError(
            f"torchvision's weights for {name} could not be downloaded: {reason}",
            f"use --set model.pretrained=false, or place the file in {torch.hub.get_dir()}/checkpoints",
        ) from error
    except ValueError as error:  # a vision transformer's pretrained size or patch does not divide input_size
        raise ConfigError(f"{name} cannot read {config.input_size}x{config.input_size} pictures: {error}") from error
    if hasattr(network, "aux_logits"):
        setattr(network, "aux_logits", False)  # noqa: B010  # a plain flag, which Module does not declare
        for auxiliary in ("AuxLogits", "aux1", "aux2"):
            if hasattr(network, auxiliary):
                setattr(network, auxiliary, None)
    _replace_head(network, classes)
    return network


def _replace_head(network: nn.Module, classes: int) -> None:
    """Swaps the last layer (linear, or squeezenet's 1x1 convolution) for one with `classes` outputs."""
    name, last = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    head: nn.Module
    if isinstance(last, nn.Linear):
        head = nn.Linear(last.in_features, classes, bias=last.bias is not None)
    else:
        head = nn.Conv2d(last.in_channels, classes, kernel_size=1)
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, head)
