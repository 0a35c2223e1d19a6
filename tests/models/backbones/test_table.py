"""Backbones by name: their maps stand where they say, one that lacks a map is refused, and networks learn on them."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from nanocv_cli.config.loader import resolve
from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.errors import ConfigError
from nanocv_cli.exporting.graph_file import export_graph
from nanocv_cli.models.backbones.table import build_backbone
from nanocv_cli.models.dense_detection import Losses
from nanocv_cli.models.registry import build_model, without_weights
from nanocv_cli.training.start import take
from tests.training.test_start import network_of, write_checkpoint

STRIDES = {"nanospot": (8, 16, 32), "nanoseg": (4, 8, 16)}
NAMES = ["nanores", "resnet18", "mobilenet_v3_small", "regnet_y_400mf", "convnext_tiny", "timm/test_resnet",
         "timm/test_convnext", "timm/swin_tiny_patch4_window7_224"]  # fmt: skip


def config(model: str, backbone: str, size: int = 64) -> ModelConfig:
    sets = (f"model.args.backbone={backbone}", f"model.input_size={size}")
    return resolve(model=model, overrides=sets).config.model


def expect_timm(name: str) -> None:
    if name.startswith("timm/"):
        pytest.importorskip("timm", reason="not installed: timm")


@pytest.mark.parametrize("model", STRIDES)
@pytest.mark.parametrize("name", NAMES)
def test_maps_have_the_channels_and_strides_that_are_told(name: str, model: str) -> None:
    expect_timm(name)
    strides = STRIDES[model]
    backbone = without_weights(partial(build_backbone, name, strides, config(model, name)))
    maps = backbone.feature_maps(torch.empty(2, 3, 64, 64, device="meta"))
    assert backbone.strides == strides
    assert [tuple(found.shape) for found in maps] == [
        (2, channels, 64 // stride, 64 // stride) for channels, stride in zip(backbone.channels, strides, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_b_16", "vit_b_16 gives no map of stride 8 and 32; it has 16"),
        ("googlenet", "googlenet gives no map of stride 8 and 16 and 32; it has none"),
        ("timm/test_vit", "test_vit gives no map of stride 8 and 32; it has 16"),
        ("nanorez", "model.args.backbone is 'nanorez', which is no backbone"),
        ("timm/nothing", "has no network 'nothing'"),
    ],
)
def test_what_gives_no_such_maps_is_refused(name: str, message: str) -> None:
    expect_timm(name)
    with pytest.raises(ConfigError) as refused:
        build_model(config("nanospot", name), 3)
    assert message in refused.value.message and refused.value.hint


def test_a_key_of_the_own_backbone_is_refused_beside_another() -> None:
    with pytest.raises(ConfigError, match="widths is of the network's own backbone, which nanores takes the place of"):
        resolve(model="nanoseg", overrides=["model.args.backbone=nanores", "model.args.widths=[8, 8, 8]"])


@pytest.mark.parametrize("name", ["nanores", "resnet18", "timm/test_convnext"])
def test_every_layer_learns_also_at_sizes_that_the_strides_do_not_divide(name: str) -> None:
    expect_timm(name)
    detector, segmenter = (build_model(config(model, name), 2) for model in STRIDES)
    losses = detector(torch.randn(2, 3, 48, 48), torch.tensor([[[0.1, 0.2, 0.6, 0.7, 1.0, 0.0]]] * 2))
    assert isinstance(losses, Losses)
    losses.total.backward()
    logits = segmenter(torch.randn(2, 3, 48, 48))
    assert logits.shape == (2, 2, 48, 48)
    logits.sum().backward()
    for network in (detector, segmenter):
        assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("source", "model", "backbone", "within"),
    [
        ("nanores", "nanospot", "nanores", "backbone"),
        ("nanores", "nanoseg", "nanores", "backbone"),
        ("resnet18", "nanospot", "resnet18", "backbone"),
        ("timm/test_convnext", "nanoseg", "timm/test_convnext", "backbone.body.model"),
    ],
)
def test_a_classifier_starts_the_backbone_of_another_task(
    tmp_path: Path, source: str, model: str, backbone: str, within: str
) -> None:
    expect_timm(source)
    classifier, _ = network_of(source, 2, seed=1)
    safetensors.torch.save_file(classifier.state_dict(), tmp_path / "plain.safetensors")
    network, carrying = network_of(model, 3, f"model.args.backbone={backbone}", "model.input_size=64")
    start = take(tmp_path / "plain.safetensors", "plain", network, carrying, ("a", "b", "c"))
    assert start.within == within
    own = {name for name in network.state_dict() if name.startswith("backbone.")}
    assert own == set(start.names)
    for name in own:
        assert torch.equal(network.state_dict()[name], classifier.state_dict()[name.removeprefix(f"{within}.")])


@pytest.mark.slow(8)
def test_a_graph_of_any_size_answers_like_its_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="not installed: timm")
    torch.manual_seed(0)
    chosen = config("nanoseg", "timm/test_efficientnet")
    checkpoint = write_checkpoint(tmp_path / "model.safetensors", build_model(chosen, 2), chosen)
    images = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)
    assert export_graph(checkpoint, tmp_path / "model.onnx", images, any_size=True).parity.n > 0
