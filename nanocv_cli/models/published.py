"""Weights that torchvision has published, from torch's cache or downloaded into it."""

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nanocv_cli.errors import ModelError
from nanocv_cli.untrusted import first_line

WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def torchvision_state(name: str) -> dict[str, Tensor]:
    """A torchvision classifier's default weights; see `published_state`.

    Raises:
        ModelError: they cannot be had.
    """
    return published_state(weights_url(name), f"torchvision's weights for {name}", "use --set model.pretrained=false")


def weights_url(name: str) -> str:
    """Where torchvision publishes a classifier's default weights."""
    from torchvision import models

    url: str = models.get_model_weights(name)["DEFAULT"].url
    return url


def published_state(url: str, name: str, instead: str) -> dict[str, Tensor]:
    """A published state dict, with the hash that its name carries checked.

    Such files are pickles by their publishers' choice; torch's restricted unpickler, which runs no code, reads them.

    Args:
        url: where it is published, the name ending in `-HASH.pth`.
        name: whose weights, for people.
        instead: what to do without them.

    Raises:
        ModelError: they cannot be had.
    """
    with _had(f"{name} could not be had from {url}", instead):
        state: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    return state


def torchvision_network(name: str, is_pretrained: bool, **options: Any) -> nn.Module:
    """A detector or segmenter of torchvision's, its backbone with the weights that torchvision has for it if asked for.

    torchvision unpickles those without restriction; here they are read as `published_state` reads others.

    Args:
        name: torchvision's.
        is_pretrained: whether the backbone has weights.
        options: of torchvision's builder.

    Raises:
        ModelError: the weights cannot be had.
    """
    from torchvision import models

    backbone = "DEFAULT" if is_pretrained else None
    told = f"torchvision's weights for the backbone of {name} could not be had"
    with _had(told, "use --set model.pretrained=false"), _weights_only():
        network: nn.Module = models.get_model(name, weights=None, weights_backbone=backbone, **options)
    return network


@contextmanager
def _had(told: str, instead: str) -> Iterator[None]:
    """Tells why published weights cannot be had.

    Raises:
        ModelError: with the reason behind what is told.
    """
    try:
        yield
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        reason = first_line(getattr(error, "reason", error))
        raise ModelError(
            f"{told}: {reason}", f"{instead}, or place the file in {torch.hub.get_dir()}/checkpoints"
        ) from error


@contextmanager
def _weights_only() -> Iterator[None]:
    """Has `torch.load` use its restricted unpickler inside the block, whatever its caller says."""
    former = os.environ.get(WEIGHTS_ONLY)
    os.environ[WEIGHTS_ONLY] = "1"
    try:
        yield
    finally:
        if former is None:
            del os.environ[WEIGHTS_ONLY]
        else:
            os.environ[WEIGHTS_ONLY] = former
