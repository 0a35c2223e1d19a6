"""Weights that others have published, from torch's cache or downloaded into it."""

import pickle

import torch
from torch import Tensor

from nanocv_cli.errors import ModelError


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
    try:
        state: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        reason = getattr(error, "reason", error)
        raise ModelError(
            f"{name} could not be had from {url}: {reason}",
            f"{instead}, or place the file in {torch.hub.get_dir()}/checkpoints",
        ) from error
    return state
