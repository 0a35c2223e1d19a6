"""Layers of torch modules."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nanocv_cli.analysis.layer import Layer
from nanocv_cli.analysis.torch_trace import trace
from nanocv_cli.models.registry import without_weights


def layers_of(network: nn.Module, *shape: int) -> tuple[Layer, ...]:
    return trace(without_weights(lambda: network), (torch.empty(shape, device="meta"),))[0]


def test_nvidias_examples_at_fp16() -> None:
    """NVIDIA, GPU performance background user's guide, table 1."""
    (linear,) = layers_of(nn.Linear(1024, 4096), 1, 1024)
    assert linear.intensity("fp16", 512) == pytest.approx(315, abs=0.5)
    assert linear.intensity("fp16", 1) == pytest.approx(1.0, abs=0.005)
    (pool,) = layers_of(nn.MaxPool2d(3, stride=1, padding=1), 1, 8, 32, 32)
    assert pool.intensity("fp16") == pytest.approx(2.25)
    (relu,) = layers_of(nn.ReLU(), 1, 8, 32, 32)
    assert relu.intensity("fp16") == pytest.approx(0.25)


def test_lenet_by_hand() -> None:
    from nanocv_cli.models.lenet import LeNet

    layers = layers_of(LeNet(4), 1, 3, 224, 224)
    flops = {layer.name: layer.flops() for layer in layers if layer.macs}
    assert flops == {
        "features.conv1": 10_838_016,
        **{f"features.conv{stage}": 28_901_376 for stage in range(2, 6)},
        "classifier": 100_352,
    }
    conv = layers[0]
    assert (conv.kernel, conv.in_channels, conv.out_channels) == ("3x3", 3, 16)
    assert (conv.in_size, conv.out_size) == ((224, 224), (112, 112))
    assert conv.bytes("fp16") == 2 * (3 * 16 * 9 + 3 * 224 * 224 + 16 * 112 * 112)
    assert sum(layer.params for layer in layers) == 443_284


@settings(max_examples=40, deadline=None)
@given(
    groups=st.integers(1, 3),
    before=st.integers(1, 4),
    after=st.integers(1, 4),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    size=st.tuples(st.integers(8, 17), st.integers(8, 17)),
    transposed=st.booleans(),
)
def test_convolutions_agree_with_torchs_own_counter(
    groups: int, before: int, after: int, kernel: Any, stride: int, dilation: int, size: Any, transposed: bool
) -> None:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    network = kind(before * groups, after * groups, kernel, stride, groups=groups, dilation=dilation)
    with FlopCounterMode(display=False) as counter:
        out = network(torch.zeros(1, before * groups, *size))
    (layer,) = layers_of(network, 1, before * groups, *size)
    assert layer.flops() == counter.get_total_flops()
    assert layer.product is not None
    assert layer.product.macs == layer.macs
    assert layer.out_size == tuple(out.shape[2:])


@pytest.mark.parametrize("batch_first", [True, False])
def test_fused_attention_is_counted_whole(batch_first: bool) -> None:
    """Two projections and `softmax(QK^T)V`: 4*L*E*E + 2*L*L*E multiply-adds."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(32, 4, batch_first=batch_first)

        def forward(self, tokens: Tensor) -> Tensor:
            found: Tensor = self.attention(tokens, tokens, tokens, need_weights=False)[0]
            return found

    length, width = 10, 32
    shape = (1, length, width) if batch_first else (length, 1, width)
    layers = layers_of(Attention(), *shape)
    assert sum(layer.macs for layer in layers) == 4 * length * width * width + 2 * length * length * width
    attention = [layer for layer in layers if layer.kind == "attention"]
    assert len(attention) == 1
    assert attention[0].inputs.floats == 3 * length * width
    assert torch.nn.functional.scaled_dot_product_attention.__name__ == "scaled_dot_product_attention"


def test_work_that_no_image_enters_does_not_grow_with_the_batch() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.zeros(64, 8))
            self.project = nn.Linear(8, 8, bias=False)

        def forward(self, tokens: Tensor) -> Tensor:
            return tokens + self.project(self.table)

    project, add = layers_of(Positions(), 1, 64, 8)
    assert (project.flops(16), add.operations(16)) == (2 * 64 * 8 * 8, 16 * 64 * 8)


def test_every_operator_without_a_rule_is_named() -> None:
    class Unknown(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.fft.fft2(images).real

    layers = layers_of(Unknown(), 1, 3, 8, 8)
    assert "other" in {layer.kind for layer in layers}
    assert all(math.isfinite(layer.intensity("fp16")) for layer in layers)


def test_shared_weights_are_counted_once_and_read_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, tokens: Tensor) -> Tensor:
            out: Tensor = self.layer(self.layer(tokens))
            return out

    first, second = layers_of(Twice(), 1, 8)
    assert (first.name, second.name) == ("layer", "layer#2")
    assert (first.params, second.params) == (72, 0)
    assert first.weights == second.weights
