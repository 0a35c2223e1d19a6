"""Rate and image size over training."""

import pytest

from nanocv_cli.config.schema import TrainConfig
from nanocv_cli.training.optimiser import image_size, learning_rate


def test_one_cycle_rises_to_the_peak_and_ends_at_zero() -> None:
    config = TrainConfig(name="x", learning_rate=0.1, warmup=0.25)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates.index(max(rates)) == 25
    assert max(rates) == pytest.approx(0.1)
    assert rates[:26] == sorted(rates[:26])
    assert rates[25:] == sorted(rates[25:], reverse=True)
    assert 0 < rates[-1] < 0.001


def test_cosine_only_falls() -> None:
    config = TrainConfig(name="x", learning_rate=0.1, schedule="cosine")
    rates = [learning_rate(config, step, 50) for step in range(50)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[25] == pytest.approx(0.05)
    assert rates == sorted(rates, reverse=True)


def test_images_grow_to_full_size_by_two_thirds() -> None:
    config = TrainConfig(name="x", epochs=30, start_size=0.5)
    sizes = [image_size(config, 224, epoch) for epoch in range(30)]
    assert sizes[0] == 112
    assert sizes == sorted(sizes)
    assert set(sizes[20:]) == {224}
    assert all(size % 16 == 0 for size in sizes)
    assert image_size(TrainConfig(name="x"), 100, 0) == 100
