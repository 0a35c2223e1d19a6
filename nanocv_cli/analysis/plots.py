"""The roofline with the layers as points, and the sweep over batch sizes, as PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from nanocv_cli.analysis.layer import Model
from nanocv_cli.analysis.roofline import CACHE, COMPUTE, LATENCY, MEMORY, Point, Roofline
from nanocv_cli.files import save_chart
from nanocv_cli.untrusted import in_chart

COLOURS = {MEMORY: "C0", CACHE: "C1", COMPUTE: "C2", LATENCY: "C7"}
MARKERS = {"conv2d": ("o", 55.0), "linear": ("s", 45.0), "matmul": ("D", 40.0), "attention": ("P", 70.0)}
OTHERS = (".", 36.0)
NAMED = 6


@dataclass(frozen=True)
class Spot:
    """A layer in the image: its intensity and predicted rate, operations per second."""

    name: str
    kind: str
    verdict: str
    intensity: float
    rate: float
    seconds: float


def draw_roofline(model: Model, roofline: Roofline, at: Point, target: Path) -> None:
    """Writes both roofs and every layer at its intensity and predicted rate; the costliest layers are named.

    Raises:
        StorageError: it cannot be written.
    """
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.add_subplot()
    spots = [
        Spot(
            layer.name,
            layer.kind,
            estimate.verdict,
            estimate.intensity,
            layer.operations(at.batch) / estimate.seconds,
            estimate.seconds,
        )
        for layer, estimate in zip(model.layers, at.layers, strict=True)
        if estimate.intensity
    ]
    intensities = [spot.intensity for spot in spots]
    low, high = min(0.1, *intensities, 0.1) / 1.5, max(4.0 * roofline.thresholds[1], *intensities, 1.0) * 1.5
    _draw_roofs(axes, roofline, low, high)
    for spot in spots:
        marker, size = MARKERS.get(spot.kind, OTHERS)
        axes.scatter(spot.intensity, spot.rate, s=size, c=COLOURS[spot.verdict], marker=marker, alpha=0.75,
                     edgecolors="none", zorder=3)  # fmt: skip
    _name_costliest(axes, [spot for spot in spots if spot.kind in MARKERS])
    for verdict, colour in COLOURS.items():
        if any(spot.verdict == verdict for spot in spots):
            axes.scatter([], [], color=colour, label=verdict)
    for kind in [*MARKERS, ""]:
        if kind in ("", *(spot.kind for spot in spots)):
            marker, size = MARKERS.get(kind, OTHERS)
            axes.scatter([], [], s=size, color="0.3", marker=marker, label=kind or "other layers")
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(low, high),
        xlabel="arithmetic intensity, operations per byte",
        ylabel="predicted rate, operations per second",
        title=f"{in_chart(model.name)} on {in_chart(roofline.gpu.title)}, {at.dtype}, batch {at.batch}",
    )
    axes.grid(alpha=0.25, which="major")
    figure.legend(loc="outside right center", fontsize=8, frameon=False)
    save_chart(figure, target)


def _draw_roofs(axes: Axes, roofline: Roofline, low: float, high: float) -> None:
    bandwidths = [("memory", roofline.gpu.memory_bandwidth, roofline.thresholds[1])]
    if roofline.gpu.l2_bandwidth and roofline.thresholds[0]:
        bandwidths.append(("L2 cache", roofline.gpu.l2_bandwidth, roofline.thresholds[0]))
    for place, (name, bandwidth, threshold) in enumerate(bandwidths):
        style = "-" if place == 0 else "--"
        axes.plot(
            [low, threshold, high], [low * bandwidth, roofline.peak, roofline.peak], style, color="k", linewidth=1.4
        )
        axes.axvline(threshold, color="0.75", linestyle=":", linewidth=1.0, zorder=0)
        axes.annotate(f"{threshold:.0f}", (threshold, 0.0), xycoords=("data", "axes fraction"), xytext=(3, 4),
                      textcoords="offset points", fontsize=8, color="0.35")  # fmt: skip
        at = low * 2.2
        axes.annotate(
            f"{name} {_si(bandwidth)}B/s",
            (at, at * bandwidth),
            xytext=(-4, 8 if place else -14),
            textcoords="offset points",
            fontsize=8,
        )
    axes.annotate(
        f"peak {_si(roofline.peak)}FLOP/s",
        (high, roofline.peak),
        xytext=(-4, 5),
        textcoords="offset points",
        fontsize=8,
        ha="right",
    )


def _name_costliest(axes: Axes, spots: Sequence[Spot]) -> None:
    """Names in a column at the left, from the fastest down, each with a line to its point."""
    costliest = sorted(spots, key=lambda spot: spot.seconds, reverse=True)[:NAMED]
    for place, spot in enumerate(sorted(costliest, key=lambda spot: spot.rate, reverse=True)):
        axes.annotate(
            f"{in_chart(spot.name)}  {spot.seconds * 1e6:.1f} us",
            (spot.intensity, spot.rate),
            xytext=(0.02, 0.97 - 0.045 * place),
            textcoords="axes fraction",
            fontsize=7.5,
            va="top",
            arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.6, "shrinkA": 1, "shrinkB": 2},
        )


def draw_sweep(model: Model, points: Sequence[Point], roofline: Roofline, target: Path) -> None:
    """Writes intensity and throughput over the batch size, one line for each data type.

    Raises:
        StorageError: it cannot be written.
    """
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    dtypes = list(dict.fromkeys(at.dtype for at in points))
    for place, dtype in enumerate(dtypes):
        own = sorted((at for at in points if at.dtype == dtype), key=lambda at: at.batch)
        batches = [at.batch for at in own]
        left.plot(batches, [at.intensity for at in own], "o-", color=f"C{place}", label=f"whole model, {dtype}")
        right.plot(batches, [at.throughput for at in own], "o-", color=f"C{place}", label=dtype)
    own = sorted((at for at in points if at.dtype == roofline.dtype), key=lambda at: at.batch)
    for number, layer in enumerate(model.layers):
        if layer.macs:
            left.plot(
                [at.batch for at in own],
                [at.layers[number].intensity for at in own],
                color="0.6",
                linewidth=0.5,
                alpha=0.6,
                zorder=0,
            )
    left.plot([], [], color="0.6", linewidth=0.8, label=f"each layer, {roofline.dtype}")
    batches = sorted({at.batch for at in points})
    for name, threshold in zip(("L2 cache", "memory"), roofline.thresholds, strict=True):
        if threshold:
            left.axhline(threshold, color="k", linestyle="--", linewidth=0.9)
            left.annotate(
                f"{name}: {threshold:.0f}",
                (batches[0], threshold),
                xytext=(2, 3),
                textcoords="offset points",
                fontsize=8,
            )
    left.set(
        xscale="log", yscale="log", xlabel="batch size", ylabel="operations per byte", title="arithmetic intensity"
    )
    right.set(xscale="log", yscale="log", xlabel="batch size", ylabel="images per second", title="predicted throughput")
    for axes in (left, right):
        axes.set_xticks(batches, [str(batch) for batch in batches])
        axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        axes.yaxis.set_major_locator(LogLocator(10.0, (1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(EngFormatter(sep=" "))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    figure.suptitle(f"{in_chart(model.name)} on {in_chart(roofline.gpu.title)}")
    save_chart(figure, target)


def _si(value: float) -> str:
    unit, factor = next((u, f) for u, f in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("", 1.0)) if value >= f)
    return f"{value / factor:.3g} {unit}"
