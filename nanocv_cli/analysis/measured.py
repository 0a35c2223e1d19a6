"""Predicted beside measured: how long a model and each layer really took, and which share of the roof that is."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.analysis.layer import Model
from nanocv_cli.analysis.report import render
from nanocv_cli.analysis.roofline import Point
from nanocv_cli.machine import expect_room

# A layer that takes this share of the whole, and this many times its time at the roof, is named as one to look at.
WORTH_A_LOOK, FAR_BELOW = 0.05, 4.0
WARM_RUNS = 3
FEWEST_RUNS = 5
SECONDS = 2.0


@dataclass(frozen=True)
class Measured:
    """Times of one model on one device.

    Attributes:
        engine: what ran it, in words.
        seconds: median of the whole model, run as a user runs it.
        layers: median of each layer, each operation run and timed by itself; None for one that the engine did not
            run under that name.
        runs: how often the whole was run.
        fused: for each layer, the place of the one that it is computed within, whose time is that of both; None where
            it is by itself. Empty where the engine was kept from it.
        rest: seconds of what is no layer of the model, as values that are put in another order; None: not known.
    """

    engine: str
    seconds: float
    layers: tuple[float | None, ...]
    runs: int
    fused: tuple[int | None, ...] = ()
    rest: float | None = None

    @property
    def summed(self) -> float:
        """Seconds of all layers and what is none."""
        return sum(seconds for seconds in self.layers if seconds) + (self.rest or 0.0)

    def error(self, at: Point) -> float:
        """Relative error of the predicted time of the whole: -0.5 is half of what was measured."""
        return at.seconds / self.seconds - 1.0

    def median_layer_error(self, at: Point) -> float:
        """Median over the timed layers of the absolute relative error of their predicted time; 0 without any."""
        pairs = zip(at.layers, self.layers, strict=True)
        errors = [abs(estimate.seconds / seconds - 1.0) for estimate, seconds in pairs if seconds]
        return statistics.median(errors) if errors else 0.0


# A graph's file, its layers, shapes of its inputs for one image, and the batch size.
Measurer = Callable[[Path, Model, dict[str, tuple[int, ...]], int], Measured]


def seconds_of(run: Callable[[], object]) -> list[float]:
    """Wall times of a call, repeated for two seconds and five times at least, after three that are not counted."""
    for _ in range(WARM_RUNS):
        run()
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times) < FEWEST_RUNS:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def random_values(name: str, dtype: type, sizes: Sequence[int], batch: int) -> NDArray[Any]:
    """What an input is fed with; the same at every call.

    Args:
        name: of the input, for messages.
        dtype: of NumPy.
        sizes: of the array.
        batch: images in it, for messages.

    Raises:
        ValueError: a size is none.
        RequestError: it is more than this machine's memory takes.
    """
    if min(sizes, default=1) < 1:
        raise ValueError(f"its input {name} has the shape {list(sizes)}")
    expect_room(math.prod(sizes) * np.dtype(dtype).itemsize, f"{batch:,} images", "a smaller --batch-sizes")
    random = np.random.default_rng(0)
    if np.issubdtype(dtype, np.floating):
        return random.random(sizes).astype(dtype)
    return random.integers(0, 2 if dtype == np.bool_ else 100, sizes).astype(dtype)


def share_of_roof(roof_seconds: float, seconds: float | None) -> float | None:
    """What share of the roof was reached: time at the roof over time measured; None without a measurement."""
    return roof_seconds / seconds if seconds else None


def measured_table(model: Model, at: Point, found: Measured, form: str, order: Sequence[int]) -> list[str]:
    """Predicted, measured and achieved share of the roof by layer."""
    header = ["<layer", "<kind", "predicted us", "measured us", "of the roof", "time lost us", "<verdict"]
    rows = []
    for number in order:
        layer, estimate, seconds = model.layers[number], at.layers[number], found.layers[number]
        share = share_of_roof(estimate.roof_seconds, seconds)
        within = found.fused[number] if found.fused else None
        rows.append(
            [
                layer.name,
                layer.kind,
                f"{estimate.seconds * 1e6:.1f}",
                f"{seconds * 1e6:.1f}" if seconds else f"in {model.layers[within].name}" if within is not None else "",
                f"{share:.0%}" if share is not None else "",
                f"{(seconds - estimate.roof_seconds) * 1e6:.1f}" if seconds else "",
                estimate.verdict,
            ]
        )
    if found.rest is not None:
        rows.append(["no layer", "", "", f"{found.rest * 1e6:.1f}", "", f"{found.rest * 1e6:.1f}", ""])
    roof = sum(estimate.roof_seconds for estimate in at.layers)
    rows.append(["whole model", "", f"{at.seconds * 1e6:.1f}", f"{found.seconds * 1e6:.1f}",
                 f"{roof / found.seconds:.0%}", f"{(found.seconds - roof) * 1e6:.1f}", at.verdict])  # fmt: skip
    return render(header, rows, form)


def far_below_roof(at: Point, found: Measured) -> list[int]:
    """The places of layers that take much of the time, and several times what they would at the roof; longest first."""
    far = [
        (seconds, number)
        for number, (estimate, seconds) in enumerate(zip(at.layers, found.layers, strict=True))
        if seconds and seconds >= WORTH_A_LOOK * found.summed and seconds >= FAR_BELOW * estimate.roof_seconds
    ]
    return [number for _, number in sorted(far, reverse=True)]


def conclusion(model: Model, at: Point, found: Measured) -> list[str]:
    """How good the prediction was, and which layers are far from the roof, in words."""
    parts = "layers and what is none" if found.rest is not None else "layers by themselves"
    lines = [
        f"{found.engine}: predicted {at.seconds * 1e3:.3f} ms, measured {found.seconds * 1e3:.3f} ms (median of "
        f"{found.runs} runs): error {found.error(at):+.0%}; layer by layer: median error "
        f"{found.median_layer_error(at):.0%}, {parts} {found.summed * 1e3:.3f} ms in all "
        f"({found.summed / found.seconds:.0%} of the whole)"
    ]
    far = [
        f"{model.layers[number].name} ({at.layers[number].roof_seconds / (found.layers[number] or 1.0):.0%})"
        for number in far_below_roof(at, found)
    ]
    told = f"under {1 / FAR_BELOW:.0%} of the roof, with {WORTH_A_LOOK:.0%} of the time or more"
    lines.append(f"{told}: {', '.join(far) or 'none'}")
    return lines


def measured_json(model: Model, at: Point, found: Measured) -> dict[str, Any]:
    """The measurement's part of the document."""
    fused = found.fused or (None,) * len(model.layers)
    return {
        "engine": found.engine,
        "seconds": found.seconds,
        "predicted_seconds": at.seconds,
        "error": found.error(at),
        "median_layer_error": found.median_layer_error(at),
        "runs": found.runs,
        "summed_seconds": found.summed,
        "rest_seconds": found.rest,
        "far_below_roof": [model.layers[number].name for number in far_below_roof(at, found)],
        "layers": [
            {
                "seconds": seconds,
                "share_of_roof": share_of_roof(estimate.roof_seconds, seconds),
                "fused_into": None if within is None else model.layers[within].name,
            }
            for estimate, seconds, within in zip(at.layers, found.layers, fused, strict=True)
        ],
    }
