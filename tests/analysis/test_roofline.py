"""Verdicts, predictions and the turn to compute-bound."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanocv_cli.analysis.layer import Layer, Model, Product, Values
from nanocv_cli.analysis.roofline import (
    CACHE,
    COMPUTE,
    LARGEST_BATCH,
    LATENCY,
    MEMORY,
    Roofline,
    blocks_of,
    compute_bound_from,
    point,
)
from nanocv_cli.config.loader import load_group
from nanocv_cli.config.schema import GpuConfig
from nanocv_cli.errors import RequestError


def v100() -> GpuConfig:
    config = load_group("gpu", "v100")[0]
    assert isinstance(config, GpuConfig)
    return config


def linear(before: int, after: int, rows: int = 1) -> Layer:
    product = Product(rows, after, before)
    return Layer("layer", "linear", "linear", macs=product.macs, weights=Values(before * after),
                 inputs=Values(rows * before), outputs=Values(rows * after), product=product)  # fmt: skip


def test_thresholds_of_the_v100() -> None:
    l2, memory = Roofline(v100(), "fp16").thresholds
    assert (round(l2 or 0), round(memory)) == (40, 139)


def test_verdicts_on_both_sides_of_each_threshold() -> None:
    roofline = Roofline(v100(), "fp16")
    assert [roofline.verdict_of(value) for value in (39.0, 41.0, 138.0, 140.0)] == [MEMORY, CACHE, CACHE, COMPUTE]
    assert roofline.verdict(linear(1024, 4096), 512) == COMPUTE
    assert roofline.verdict(linear(1024, 4096), 1) == MEMORY
    assert roofline.verdict(linear(64, 64), 1) == LATENCY


def test_a_device_without_an_l2_figure_has_one_threshold() -> None:
    roofline = Roofline(v100().model_copy(update={"l2_bandwidth": None}), "fp16")
    assert roofline.thresholds[0] is None
    assert [roofline.verdict_of(value) for value in (41.0, 140.0)] == [MEMORY, COMPUTE]


def test_a_precision_without_a_peak_is_refused_with_those_there_are() -> None:
    with pytest.raises(RequestError, match="no bf16 peak") as refused:
        Roofline(v100(), "bf16")
    assert "fp16" in refused.value.hint


layers = st.builds(linear, st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 300))


@settings(deadline=None)
@given(layers, st.sampled_from(["fp32", "fp16", "int8"]), st.integers(1, 4096))
def test_a_prediction_is_never_faster_than_the_roof(layer: Layer, dtype: str, batch: int) -> None:
    roofline = Roofline(v100(), dtype)
    estimate = roofline.estimate(layer, batch)
    assert estimate.seconds >= estimate.roof_seconds + roofline.gpu.launch_seconds * 0.999
    assert estimate.roof_seconds >= layer.flops(batch) / roofline.peak * 0.999
    assert roofline.estimate(layer, batch + 1).roof_seconds >= estimate.roof_seconds * 0.999


@settings(deadline=None)
@given(layers, st.sampled_from(["fp32", "fp16"]))
def test_the_turn_is_the_smallest_batch_that_is_compute_bound(layer: Layer, dtype: str) -> None:
    roofline = Roofline(v100(), dtype)
    turn = compute_bound_from(layer, roofline)
    if turn.batch is None:
        assert turn.reason
        assert roofline.verdict(layer, LARGEST_BATCH) != COMPUTE
    else:
        assert roofline.verdict(layer, turn.batch) == COMPUTE
        assert turn.batch == 1 or roofline.verdict(layer, turn.batch - 1) != COMPUTE


def test_why_a_layer_never_turns() -> None:
    relu = Layer("relu", "activation", "relu", other_ops=100, inputs=Values(100), outputs=Values(100))
    assert "tends to 0.25" in compute_bound_from(relu, Roofline(v100(), "fp16")).reason
    copy = Layer("copy", "movement", "copy", inputs=Values(100), outputs=Values(100))
    assert compute_bound_from(copy, Roofline(v100(), "fp16")).reason == "it only moves values"


def test_blocks_of_products_and_of_other_layers() -> None:
    assert blocks_of(linear(512, 128, rows=65), 1) == 2 * 2 * 2
    assert blocks_of(linear(512, 128, rows=65), 2) == 3 * 2 * 2
    relu = Layer("relu", "activation", "relu", other_ops=2048, inputs=Values(2048), outputs=Values(2048))
    assert blocks_of(relu, 3) == 6


def test_the_whole_is_the_sum_of_its_layers() -> None:
    model = Model("two", (), (linear(256, 256), linear(512, 128)), 0)
    at = point(model, Roofline(v100(), "fp16"), 8)
    assert at.seconds == pytest.approx(sum(layer.seconds for layer in at.layers))
    moved = sum(layer.bytes("fp16", 8) for layer in model.layers)
    assert at.intensity == pytest.approx(sum(layer.operations(8) for layer in model.layers) / moved)
    assert at.throughput == pytest.approx(8 / at.seconds)
