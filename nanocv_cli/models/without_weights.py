"""Networks without memory: parameters exist as shapes only, whatever their size."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

# What layers make their parameters with. Everything else a builder computes (regnet's widths, Swin's window indices)
# runs as it stands, for builders read values from it.
FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}


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
