"""timm's networks behind nanocv's door: a name checked, a network of the right input size, weights by timm's hub.

Weights are fetched by `engine/hub.py`, which holds them against what the hub announced, and are read as `.safetensors`
alone: timm's own way would fall back to pickles. Nothing else of timm's reaches for a network.
"""

from typing import Any

from torch import nn

from nanocv_cli.config.nearest import nearest
from nanocv_cli.config.project import cache_folder, project_root
from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.engine.hub import fetch_hub_file
from nanocv_cli.errors import ConfigError, ModelError, NanocvError
from nanocv_cli.untrusted import first_line, printable

SMALLEST_INPUT = 32  # pixels; nearly all of timm's networks halve their input five times
WITHOUT = "--set model.pretrained=false, or start from a file of them: --from FILE.safetensors"


def build_timm_classifier(config: ModelConfig, classes: int) -> nn.Module:
    """Builds a timm classifier; with `pretrained`, the weights of its name and tag but for the head.

    Raises:
        ConfigError: timm has no network of this name, or not for images of this size or normalisation.
        ModelError: the pretrained weights cannot be had.
    """
    return create(config.architecture, config, num_classes=classes)


def create(name: str, config: ModelConfig, **options: Any) -> nn.Module:
    """Calls timm's builder for images of a model config's size.

    Args:
        name: of one of timm's networks, `NAME` or `NAME.TAG`; the tag says which of its weights.
        config: of the model that the network is, or is the backbone of.
        options: of `timm.create_model`.

    Raises:
        ConfigError: timm has no network of this name, or not for images of this size or normalisation, or not with
            these options.
        ModelError: the pretrained weights cannot be had.
    """
    import timm

    published, size = _published(name), config.input_size
    if size < SMALLEST_INPUT:
        raise ConfigError(
            f"model.input_size is {size}; {name} needs at least {SMALLEST_INPUT}", "--set model.input_size=224"
        )
    if published.fixed_input_size:
        options["img_size"] = size
    if config.pretrained:
        _expect_normalisation(name, published, config)
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"file": _fetched(name, published)}}
    try:
        network: nn.Module = timm.create_model(name, **options)
    except (RuntimeError, ValueError, AssertionError, TypeError, KeyError, AttributeError) as error:
        # timm has no tree of its own: the size does not divide, or the weights are not of this network.
        its_own = published.input_size[-1]
        raise ConfigError(
            f"timm cannot build {name} for {size}x{size} images: {first_line(error)}",
            f"--set model.input_size={its_own}" if size != its_own else "choose another network",
        ) from error
    return network


def _published(name: str) -> Any:
    """What timm tells of a network and its weights (`timm.models.PretrainedCfg`).

    Raises:
        ConfigError: it has no such network, or no such weights of it.
    """
    import timm

    shown = printable(repr(name), 80)
    # Only a name of timm's own table is built: its other kinds of names lead to hubs and folders.
    if not name or not timm.is_model(name):
        near = nearest(name.partition(".")[0], timm.list_models(), prefix="timm/")
        raise ConfigError(f"timm {timm.__version__} has no network {shown}", near or "timm.list_models() names them")
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        architecture, _, tag = name.partition(".")
        known = [one.partition(".")[2] for one in timm.list_pretrained(f"{architecture}.*")]
        near = nearest(tag, known)
        raise ConfigError(
            f"timm {timm.__version__} has no weights {shown}", f"{near} it has: {', '.join(known) or 'none'}".strip()
        ) from error


def _expect_normalisation(name: str, published: Any, config: ModelConfig) -> None:
    """Makes sure that pretrained weights see images as they did when they were trained.

    Raises:
        ConfigError: the config normalises otherwise.
    """
    if (published.mean, published.std) != (config.mean, config.std):
        mean, std = (list(map(float, values)) for values in (published.mean, published.std))
        raise ConfigError(
            f"the weights of {name} were trained on images normalised otherwise than model.mean and model.std say",
            f"--set 'model.mean={mean}' --set 'model.std={std}'",
        )


def _fetched(name: str, published: Any) -> str:
    """The path of a network's weights, from the cache or timm's hub.

    Raises:
        ModelError: there are none in `.safetensors`, or they cannot be had.
    """
    if not published.hf_hub_id or published.hf_hub_filename:
        raise ModelError(f"timm has no .safetensors of {name} on its hub", f"use {WITHOUT}")
    try:
        return str(fetch_hub_file(f"hf://{published.hf_hub_id}", ".safetensors", cache_folder(project_root())))
    except NanocvError as error:
        raise ModelError(f"timm's weights for {name} could not be had: {error.message}", f"use {WITHOUT}") from error
