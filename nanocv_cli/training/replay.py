"""A network's passes as CUDA graphs: captured once for each shape of its inputs, then replayed by one call.

A small network is done before a processor has launched the next of its hundreds of kernels; a replay launches all of
them at once. The kernels and their order stay the same, and so do the bits.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nanocv_cli.models.device import autocast
from nanocv_cli.training.feed import ALLOCATING
from nanocv_cli.untrusted import first_line

# A shape is captured once it has come so often, which a single batch of another size does not.
OFTEN = 3
# Each has memory of its own for inputs, outputs and gradients; sizes that grow, and objects, need a few.
MOST_SHAPES = 16
# A capture fails where anything else in this process asks the device for something meanwhile: it is tried again.
ATTEMPTS = 3

Key = tuple[tuple[torch.Size, torch.dtype], ...]


class Replayed:
    """A network in training mode, called as it is until the shapes of its inputs have come often, then replayed.

    Args:
        network: on a CUDA device; its shapes and what it launches depend on the shapes of its inputs alone.
        device: that device.
        precision: fp32, bf16 or fp16, of its passes.
        say: is told if it cannot be captured; it is then called as it is.
    """

    def __init__(self, network: nn.Module, device: torch.device, precision: str, say: Callable[[str], None]) -> None:
        self._network = network
        self._device = device
        self._precision = precision
        self._say = say
        self._pool = torch.cuda.graph_pool_handle()
        # Where gradients end belongs to the stream it was first asked for on: the step's, not that of the capture.
        self._ends = [_end(parameter) for parameter in network.parameters() if parameter.requires_grad]
        self._failed = 0
        self._seen: Counter[Key] = Counter()
        self._captured: dict[Key, Callable[..., Any]] = {}

    @property
    def captured(self) -> int:
        """Shapes of inputs at which the network is replayed."""
        return len(self._captured)

    def __call__(self, *inputs: Tensor) -> Any:
        """The network's outputs; they are overwritten by its next call."""
        key = tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        if key not in self._captured and self._failed < ATTEMPTS and len(self._captured) < MOST_SHAPES:
            self._seen[key] += 1
            if self._seen[key] == OFTEN:
                self._capture(key, inputs)
        return self._captured.get(key, self._network)(*inputs)

    def _capture(self, key: Key, inputs: tuple[Tensor, ...]) -> None:
        """Captures the network at such inputs; rehearsing leaves no trace in its statistics or in what is drawn."""
        kept = [buffer.clone() for buffer in self._network.buffers()]
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        drawn, spare = generator.get_state(), generator.clone_state()
        try:
            # A graph keeps no tensor from one call for the next, as autocast would; a GPU lets nobody else take memory.
            with ALLOCATING, autocast(self._device, self._precision, cached=False):
                samples = tuple(tensor.clone() for tensor in inputs)
                self._captured[key] = torch.cuda.make_graphed_callables(
                    _Part(self._network), samples, allow_unused_input=True, pool=self._pool
                )
            generator.set_state(drawn)
        except RuntimeError as error:
            # The generator is left as one that is being captured: its like, which no graph knows, takes its place.
            generator.graphsafe_set_state(spare)
            self._captured.clear()
            self._seen.clear()
            self._failed += 1
            if self._failed == ATTEMPTS:
                self._say(f"note: {type(self._network).__name__} is launched step by step: {first_line(error)}")
        torch.cuda.synchronize(self._device)
        for buffer, before in zip(self._network.buffers(), kept, strict=True):
            buffer.copy_(before)


def _end(parameter: Tensor) -> Any:
    """The node that adds up a parameter's gradients; it stays the same as long as somebody holds it."""
    viewed = parameter.view_as(parameter).grad_fn
    assert viewed is not None, "a parameter that learns has a gradient"
    return viewed.next_functions[0][0]


class _Part(nn.Module):
    """Stands for the network, whose own `forward` stays as it is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Any:
        return self.network(*inputs)
