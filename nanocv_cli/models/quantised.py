"""Convolutions and linear layers that learn with the rounding of int8 in their forward pass (arXiv:1712.05877).

What int8 arithmetic would do to a layer's inputs and weights is done to them in floating point ("fake quantisation"):
x becomes a whole multiple of a scale, and is cut off where 8 bits end. The gradient passes as if nothing were rounded
(straight-through estimator, arXiv:1308.3432), but not where x was cut off.

Weights have a scale for each output channel, max |w| / 127, and no zero point. So a factor for each channel behind the
layer, as a batch norm is one, goes into the scale and changes no rounded weight: norms learn as ever, and
`exporting/int8_graph.py` folds them without loss. Inputs have one scale and zero point for the whole tensor, from their
lowest and highest value: means over some batches at first, then an exponential moving average while the layer learns.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INT8 = "int8"  # of a card's `precision` and a recipe's `train.quantise`
LEVELS = 255  # steps of 8 bits
LARGEST_WEIGHT = 127  # in magnitude, so that a weight can change its sign
FOLLOWING = 0.05  # share of a training batch in the range
SMALLEST_SCALE = 1e-8


class InputRange(nn.Module):
    """Rounds a layer's inputs to 256 levels between the lowest and the highest value that they take.

    Both are buffers, so checkpoints and moving averages keep them. In training mode they follow the batches.
    """

    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        self.chosen_by: int | None = None  # batches that passed while the range is chosen; None: it is in use

    def forward(self, values: Tensor) -> Tensor:
        """Maps floats of any shape to float32 of the same; unchanged while the range is chosen."""
        if values.dtype != torch.float32:  # a conversion to what it is would stand in the graph
            values = values.float()
        if self.chosen_by is not None:
            self.chosen_by += 1
            self._follow(values, 1.0 / self.chosen_by)
            return values
        if self.training:
            self._follow(values, FOLLOWING)
        scale = ((self.high - self.low) / LEVELS).clamp(min=SMALLEST_SCALE)
        zero_point = (-self.low / scale).round()
        if torch.onnx.is_in_onnx_export():
            return _rounded_in_graph(values, scale, zero_point.to(torch.uint8))
        return _rounded(values.clamp(-zero_point * scale, (LEVELS - zero_point) * scale), scale)

    @torch.no_grad()
    def _follow(self, values: Tensor, share: float) -> None:
        """Moves the range towards that of a batch; 0 is always inside, for padding and ReLU are exact then."""
        low, high = torch.aminmax(values.detach())
        # One that nothing has passed yet takes the batch's.
        weight = torch.where(self.high > self.low, share, 1.0)
        self.low.lerp_(low.clamp(max=0.0), weight)
        self.high.lerp_(high.clamp(min=0.0), weight)


class QuantisedConv2d(nn.Conv2d):
    """A convolution on rounded inputs by rounded weights.

    Args:
        layer: shares its parameters.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            layer.padding,  # type: ignore[arg-type]
            layer.dilation,  # type: ignore[arg-type]
            layer.groups,
            layer.bias is not None,
            layer.padding_mode,
            device="meta",
        )
        self.weight, self.bias = layer.weight, layer.bias
        self.inputs = InputRange()

    def forward(self, input: Tensor) -> Tensor:
        """Maps [N,in,H,W] to [N,out,H,W]."""
        outputs: Tensor = self._conv_forward(self.inputs(input), rounded_weight(self.weight), self.bias)
        return outputs


class QuantisedLinear(nn.Linear):
    """A linear layer on rounded inputs by rounded weights.

    Args:
        layer: shares its parameters.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.inputs = InputRange()

    def forward(self, input: Tensor) -> Tensor:
        """Maps [...,in] to [...,out]."""
        outputs: Tensor = F.linear(self.inputs(input), rounded_weight(self.weight), self.bias)
        return outputs


# By the exact type: a subclass may compute something else.
QUANTISED: dict[type[nn.Module], Callable[[Any], nn.Module]] = {nn.Conv2d: QuantisedConv2d, nn.Linear: QuantisedLinear}


def quantise_layers(network: nn.Module) -> nn.Module:
    """Puts a quantised layer in the place of every convolution and linear layer, with the same parameters and names.

    Args:
        network: is changed; ranges are those of nothing yet, see `choose_ranges`.

    Returns:
        the network.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if make := QUANTISED.get(type(child)):
                reference = next(child.parameters())
                setattr(module, name, make(child).to(reference.device).train(child.training))
    return network


@torch.no_grad()
def choose_ranges(network: nn.Module, answer: Callable[[Any], object], batches: Iterable[Any]) -> None:
    """Chooses the ranges of all inputs: the means of the batches' lowest and highest values, without rounding.

    Args:
        network: with quantised layers; its other state is left as it is if it is in evaluation mode.
        answer: passes a batch through it.
        batches: what to choose by; at least one.
    """
    ranges = input_ranges(network)
    for one in ranges:
        one.chosen_by = 0
    for batch in batches:
        answer(batch)
    for one in ranges:
        one.chosen_by = None


def input_ranges(network: nn.Module) -> list[InputRange]:
    """All of a network's; none where it is not quantised."""
    return [module for module in network.modules() if isinstance(module, InputRange)]


def rounded_weight(weight: Tensor) -> Tensor:
    """A weight [out,...] in steps of a 127th of the largest magnitude of its output channel."""
    others = tuple(range(1, weight.ndim))
    scale = (weight.detach().abs().amax(others) / LARGEST_WEIGHT).clamp(min=SMALLEST_SCALE)
    if torch.onnx.is_in_onnx_export():
        return _rounded_in_graph(weight, scale, torch.zeros(len(weight), dtype=torch.int8))
    return _rounded(weight, scale.view(-1, *(1 for _ in others)))


def _rounded(values: Tensor, scale: Tensor) -> Tensor:
    """Multiples of the scale, with the gradient of the values themselves."""
    return values + ((values / scale).round() * scale - values).detach()


def _rounded_in_graph(values: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """QuantizeLinear and DequantizeLinear, in the words of the exporter that is at work; no values are computed.

    Args:
        values: float32; with a scale for each channel, that is the first axis.
        scale: float32 [] or [C].
        zero_point: uint8 or int8, likewise.
    """
    if torch.compiler.is_exporting():
        axis: dict[str, Any] = {"axis": 0} if scale.ndim else {}

        def node(name: str, first: Tensor, dtype: torch.dtype) -> Tensor:
            return torch.onnx.ops.symbolic(name, (first, scale, zero_point), axis, dtype=dtype, shape=first.shape)

        return node("DequantizeLinear", node("QuantizeLinear", values, zero_point.dtype), torch.float32)
    if scale.ndim:  # torch's older exporter allows no other limits; no weight reaches the lower one
        return torch.fake_quantize_per_channel_affine(values, scale, zero_point.int(), 0, -128, 127)
    return torch.fake_quantize_per_tensor_affine(values, scale, zero_point.int(), 0, LEVELS)
