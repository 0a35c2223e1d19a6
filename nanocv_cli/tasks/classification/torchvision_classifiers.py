"""torchvision's classifiers behind nanocv's door: by name, with a head of the right size."""

from typing import Any

from torch import nn
from torchvision import models

from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.errors import ConfigError
from nanocv_cli.models.published import torchvision_state
from nanocv_cli.untrusted import first_line

# Below these sizes a builder's last feature map would be empty.
SMALLEST_INPUT = {"inception_v3": 75, "alexnet": 63}
SMALLEST_OTHER = 32
# These have auxiliary heads that change the output's type while training; small sets do without.
WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


def build_torchvision_classifier(config: ModelConfig, classes: int) -> nn.Module:
    """Builds a torchvision classifier; with `pretrained`, its default weights but for the head.

    Raises:
        ConfigError: torchvision has no classifier of this name, or not for images of this size.
        ModelError: the pretrained weights cannot be downloaded or read.
    """
    name, size = config.architecture, config.input_size
    if name not in models.list_models(module=models):
        raise ConfigError(
            f"torchvision has no classifier {name!r}", f"it has: {', '.join(models.list_models(module=models))}"
        )
    smallest = SMALLEST_INPUT.get(name, SMALLEST_OTHER)
    if size < smallest:
        raise ConfigError(f"model.input_size is {size}; {name} needs at least {smallest}", "--set model.input_size=224")
    options: dict[str, Any] = {}
    if name in WITH_AUXILIARY_HEADS:
        options = {"aux_logits": config.pretrained, "init_weights": not config.pretrained}
        options |= {"transform_input": config.pretrained}
    elif name.startswith("vit_"):
        options = {"image_size": size}
    elif name.startswith("maxvit_"):
        options = {"input_size": (size, size)}
    try:
        network: nn.Module = models.get_model(name, weights=None, **options)
    except (ValueError, AssertionError) as error:  # the size does not divide into patches or windows
        raise _wrong_size(name, size, error) from error
    if config.pretrained:
        state = torchvision_state(name)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:  # position embeddings belong to the size they were trained at
            raise _wrong_size(name, size, error) from error
    if name in WITH_AUXILIARY_HEADS:
        for auxiliary in ("AuxLogits", "aux1", "aux2"):
            if hasattr(network, auxiliary):
                setattr(network, auxiliary, None)
        setattr(network, "aux_logits", False)  # noqa: B010  # a plain flag, which Module does not declare
    _replace_head(network, classes)
    return network


def _wrong_size(name: str, size: int, error: Exception) -> ConfigError:
    return ConfigError(f"{name} cannot read {size}x{size} images: {first_line(error)}", "--set model.input_size=224")


def _replace_head(network: nn.Module, classes: int) -> None:
    """Swaps the last layer (linear, or squeezenet's 1x1 convolution) for one with `classes` outputs."""
    layers = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    name, last = layers[-1]
    head: nn.Module
    if isinstance(last, nn.Linear):
        head = nn.Linear(last.in_features, classes, bias=last.bias is not None)
    else:
        head = nn.Conv2d(last.in_channels, classes, kernel_size=1)
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, head)
