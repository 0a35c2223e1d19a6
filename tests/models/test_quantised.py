"""Layers that learn with the rounding of int8: what is rounded, what learns, and that a checkpoint brings them back."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nanocv_cli.config.loader import resolve
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.errors import ModelError
from nanocv_cli.models.checkpoint import load_network, save_weights
from nanocv_cli.models.quantised import InputRange, choose_ranges, quantise_layers, rounded_weight
from nanocv_cli.models.registry import build_model


def chosen(*batches: Tensor) -> InputRange:
    inputs = InputRange()
    choose_ranges(inputs, inputs, batches)
    return inputs.eval()


def test_inputs_are_rounded_to_256_levels_of_their_range() -> None:
    inputs = chosen(torch.tensor([-1.0, 2.2]), torch.tensor([-2.0, 5.0]))
    assert (inputs.low.item(), inputs.high.item()) == pytest.approx((-1.5, 3.6))  # the means of the batches
    values = torch.linspace(-1.5, 3.6, 2000)
    rounded = inputs(values)
    step = 5.1 / 255
    assert len(rounded.unique()) == 256
    assert (rounded - values).abs().max() <= step * 0.501
    assert 0.0 in rounded  # padding is exact
    assert inputs(torch.tensor([9.0])).item() == pytest.approx(3.6)


def test_a_range_holds_nothing_and_follows_in_training_alone() -> None:
    inputs = chosen(torch.tensor([1.0, 3.0]))
    assert (inputs.low, inputs.high) == (0.0, 3.0)
    inputs(torch.tensor([-7.0, 9.0]))
    assert (inputs.low, inputs.high) == (0.0, 3.0)
    inputs.train()(torch.tensor([-7.0, 9.0]))
    assert -0.5 < inputs.low < 0.0 and 3.0 < inputs.high < 3.5


def test_the_gradient_passes_the_rounding_but_not_what_is_cut_off() -> None:
    values = torch.tensor([-3.0, 0.1, 0.2, 3.0], requires_grad=True)
    chosen(torch.tensor([-1.0, 1.0]))(values).sum().backward()
    assert values.grad is not None and values.grad.tolist() == [0.0, 1.0, 1.0, 0.0]
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    rounded_weight(weight).sum().backward()
    assert weight.grad is not None and (weight.grad == 1.0).all()


def test_weights_have_a_scale_for_each_output_channel() -> None:
    weight = torch.randn(4, 6) * torch.tensor([[1e-3], [1.0], [50.0], [0.0]])
    steps = weight.abs().amax(1, keepdim=True) / 127
    rounded = rounded_weight(weight)
    assert ((rounded - weight).abs() <= steps * 0.501).all()
    whole = rounded[:3] / steps[:3]
    torch.testing.assert_close(whole, whole.round(), atol=1e-3, rtol=0)
    # A factor behind the layer changes no rounded weight: so norms can be folded.
    torch.testing.assert_close(rounded_weight(weight * -3.7), rounded * -3.7)


def test_layers_of_a_network_are_replaced_and_keep_their_parameters() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1, dilation=1, groups=3, bias=False, padding_mode="reflect"),
        nn.Sequential(nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1)),
        nn.Flatten(),
        nn.Linear(32, 3),
    ).eval()
    images = torch.rand(2, 3, 8, 8)
    expected, before = network(images), dict(network.named_parameters())
    quantise_layers(network)
    choose_ranges(network, network, [images])
    after = dict(network.named_parameters())
    assert before.keys() == after.keys() and all(before[name] is after[name] for name in before)
    assert sum(isinstance(module, InputRange) for module in network.modules()) == 3
    answer = network(images)
    assert 0.0 < (answer - expected).abs().max() < 0.05


def test_a_checkpoint_that_says_int8_brings_the_rounding_back(tmp_path: Path) -> None:
    config = resolve(model="lenet", overrides=("model.input_size=32",)).config.model
    torch.manual_seed(0)
    network = quantise_layers(build_model(config, 2)).eval()
    images = torch.randn(4, 3, 32, 32)
    choose_ranges(network, network, [images])
    card = ModelCard("lenet", "classification", ("a", "b"), 32, config.resize, "set",
                     {"model": config.model_dump(mode="json")}, "0", precision="int8")  # fmt: skip
    save_weights(tmp_path / "int8.safetensors", network.state_dict(), card)
    loaded, _, _ = load_network(tmp_path / "int8.safetensors")
    assert torch.equal(loaded(images), network(images))
    plain = build_model(config, 2)
    save_weights(tmp_path / "plain.safetensors", plain.state_dict(), card)
    with pytest.raises(ModelError, match=r"inputs\.high is missing"):
        load_network(tmp_path / "plain.safetensors")
