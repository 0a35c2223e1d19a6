"""NanoSpot's size, its answers, and what it learns from."""

from pathlib import Path

import pytest
import torch

from nanocv_cli.analysis.torch_trace import trace
from nanocv_cli.config.owners import model_class
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.models.checkpoint import load_network, save_weights
from nanocv_cli.models.dense_detection import Losses
from nanocv_cli.models.nanospot import NanoSpot
from nanocv_cli.models.registry import without_weights


def test_it_keeps_to_its_budget() -> None:
    """At most 1.5 M parameters and 2 GFLOPs at 320x320."""
    network = without_weights(lambda: NanoSpot(4, 320))
    layers, _ = trace(network, (torch.empty((1, 3, 320, 320), device="meta"),))
    assert sum(parameter.numel() for parameter in network.parameters()) <= 1_500_000
    assert sum(layer.flops() for layer in layers) <= 2e9


def test_answers_have_a_fixed_number_of_boxes_whatever_the_batch() -> None:
    network = NanoSpot(3, 64).eval()
    for batch in (1, 3):
        boxes, scores, labels = network(torch.randn(batch, 3, 64, 64))
        assert (boxes.shape[0], boxes.shape[2], scores.shape) == (batch, 4, boxes.shape[:2])
        assert ((boxes >= 0) & (boxes <= 1)).all()
        assert (scores[:, :-1] >= scores[:, 1:]).all()
        assert labels.dtype == torch.int64


@pytest.mark.parametrize("size", [64, 80, 112])
def test_it_learns_at_any_size(size: int) -> None:
    """Progressive resizing gives sizes that the strides do not divide."""
    network = NanoSpot(2, 64)
    targets = torch.tensor([[[0.1, 0.2, 0.6, 0.7, 1.0, 0.0], [-1.0] * 6]])
    losses = network(torch.randn(1, 3, size, size), targets)
    assert isinstance(losses, Losses)
    losses.total.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_images_without_objects_and_with_a_thousand_are_learnt_from() -> None:
    network = NanoSpot(2, 64)
    corner = torch.rand(2, 1000, 2) * 0.8
    many = torch.cat([corner, corner + 0.1, torch.zeros(2, 1000, 2)], -1)
    for targets in (torch.full((2, 3, 6), -1.0), many):
        losses = network(torch.randn(2, 3, 64, 64), targets)
        assert isinstance(losses, Losses)
        assert torch.isfinite(losses.total)


def test_ignored_objects_teach_nothing() -> None:
    torch.manual_seed(0)
    network, image = NanoSpot(2, 64).eval(), torch.randn(1, 3, 64, 64)
    crowd = torch.tensor([[[0.0, 0.0, 1.0, 1.0, 0.0, 1.0]]])
    losses = network(image, crowd)
    # All places lie inside the crowd: none is to learn that nothing is there, and none learns an object.
    assert isinstance(losses, Losses)
    assert losses.total.item() == 0.0


def test_weights_of_its_former_name_load(tmp_path: Path) -> None:
    chosen = model_class("detection", "nanocv", "nanospot")
    config = chosen(name="nanodet", task="detection", architecture="nanospot", input_size=64, resize="stretch")
    network = NanoSpot(2, 64)
    told = {"model": {**config.model_dump(mode="json"), "architecture": "nanodet"}}
    card = ModelCard("nanodet", "detection", ("a", "b"), 64, "stretch", "boxes", told, "")
    save_weights(tmp_path / "old.safetensors", network.state_dict(), card)
    loaded, found, _ = load_network(tmp_path / "old.safetensors")
    assert found == config.model_copy(update={"name": "nanodet"})
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in network.state_dict().items())
