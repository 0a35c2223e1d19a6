"""Predicted beside measured: how long a model and each layer really took, and which share of the roof that is."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nanocv_cli.analysis.layer import Model
from nanocv_cli.analysis.report import render
from nanocv_cli.analysis.roofline import Point

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
    """

    engine: str
    seconds: float
    layers: tuple[float | None, ...]
    runs: int

    def error(self, at: Point) -> float:
        """Relative error of the predicted time of the whole: -0.5 is half of what was measured."""
        return at.seconds / self.seconds - 1.0

    def median_layer_error(self, at: Point) -> float:
        """Median over the timed layers of the absolute relative error of their predicted time; 0 without any."""
        pairs = zip(at.layers, self.layers, strict=True)
        errors = [abs(estimate.seconds / seconds - 1.0) for estimate, seconds in pairs if seconds]
        return statistics.median(errors) if errors else 0.0


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
        rows.append(
            [
                layer.name,
                layer.kind,
                f"{estimate.seconds * 1e6:.1f}",
                f"{seconds * 1e6:.1f}" if seconds else "",
                f"{share:.0%}" if share is not None else "",
                f"{(seconds - estimate.roof_seconds) * 1e6:.1f}" if seconds else "",
                estimate.verdict,
            ]
        )
    roof = sum(estimate.roof_seconds for estimate in at.layers)
    rows.append(["whole model", "", f"{at.seconds * 1e6:.1f}", f"{found.seconds * 1e6:.1f}",
                 f"{roof / found.seconds:.0%}", f"{(found.seconds - roof) * 1e6:.1f}", at.verdict])  # fmt: skip
    return render(header, rows, form)


def conclusion(at: Point, found: Measured) -> str:
    """How good the prediction was, in words."""
    summed = sum(seconds for seconds in found.layers if seconds)
    return (
        f"{found.engine}: predicted {at.seconds * 1e3:.3f} ms, measured {found.seconds * 1e3:.3f} ms (median of "
        f"{found.runs} runs): error {found.error(at):+.0%}; layer by layer: median error "
        f"{found.median_layer_error(at):.0%}, layers by themselves {summed * 1e3:.3f} ms in all"
    )


def measured_json(at: Point, found: Measured) -> dict[str, Any]:
    """The measurement's part of the document."""
    return {
        "engine": found.engine,
        "seconds": found.seconds,
        "predicted_seconds": at.seconds,
        "error": found.error(at),
        "median_layer_error": found.median_layer_error(at),
        "runs": found.runs,
        "layers": [
            {"seconds": seconds, "share_of_roof": share_of_roof(estimate.roof_seconds, seconds)}
            for estimate, seconds in zip(at.layers, found.layers, strict=True)
        ],
    }
