"""What a graph costs, layer by layer, and where each layer stands under a device's roofs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nanocv_cli.analysis.layer import Layer, Model
from nanocv_cli.analysis.roofline import CACHE, COMPUTE, LATENCY, MEMORY, Estimate, Point, Roofline, point
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.report.line_chart import HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, legend
from nanocv_cli.report.markup import Html, brief, bytes_text, element, joined, note, table
from nanocv_cli.report.section import Section, attempt

if TYPE_CHECKING:
    from nanocv_cli.config.schema import GpuConfig

TITLE = "What it costs"
BOTTOM = 40.0
VERDICTS = (MEMORY, CACHE, COMPUTE, LATENCY)
PREFIXES = {0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P"}


def cost_section(graph: Path, card: ModelCard, gpu: "GpuConfig") -> Section:
    """The table of layers and the roofline, for one image.

    Args:
        graph: the `.onnx` file.
        card: its card; a graph that reads any size is counted at the card's.
        gpu: the device.
    """

    def analysed() -> Model:
        from nanocv_cli.analysis.onnx_graph import analyse_graph

        return analyse_graph(graph, card.input_size).model

    found = attempt(analysed)
    if found.value is None:
        return Section("cost", TITLE, None, found.why_not)
    model, roofline = found.value, Roofline(gpu, "fp16" if gpu.peak.fp16 else "fp32")
    at = point(model, roofline, 1)
    alike = _alike(model, at)
    told = [
        note(
            f"Predicted for one image on {gpu.title} in {at.dtype}: {at.seconds * 1e6:,.0f} us, {at.verdict}. "
            f"{model.flops() / 1e6:,.1f} MFLOPs (two per multiply-add), {model.params:,} parameters, "
            f"{bytes_text(model.bytes(at.dtype))} moved, {at.intensity:.1f} operations per byte."
        ),
        roofline_chart(alike, roofline),
        _layers(alike, at.dtype),
    ]
    return Section("cost", TITLE, joined(told))


@dataclass(frozen=True)
class _Alike:
    """Layers that do the same work: the name of the first, how many there are, and what each of them costs."""

    name: str
    times: int
    params: int
    layer: Layer
    estimate: Estimate


def _alike(model: Model, at: Point) -> list[_Alike]:
    """The layers in the order of the first of each kind of work: a sampler's loop has the same ones step after step."""
    found: dict[Layer, list[int]] = {}
    for number, layer in enumerate(model.layers):
        found.setdefault(replace(layer, name="", params=0), []).append(number)
    return [
        _Alike(
            name=model.layers[numbers[0]].name,
            times=len(numbers),
            params=sum(model.layers[number].params for number in numbers),
            layer=work,
            estimate=at.layers[numbers[0]],
        )
        for work, numbers in found.items()
    ]


def _layers(alike: Sequence[_Alike], dtype: str) -> Html:
    header = ["layer", "times", "kind", "MFLOPs", "parameters", "kB moved", "operations per byte", "verdict", "us"]
    rows = [
        (one.name, one.times, one.layer.kind, one.times * one.layer.flops() / 1e6, one.params,
         one.times * one.layer.bytes(dtype) / 1e3, one.estimate.intensity, one.estimate.verdict,
         one.times * one.estimate.seconds * 1e6)
        for one in alike
    ]  # fmt: skip
    whole = brief(table(header, rows, words=(0, 2, 7), sortable=True), len(rows), "layers")
    if all(one.times == 1 for one in alike):
        return whole
    return joined([note("Layers that do the same work stand in one row, with what all of them cost."), whole])


def roofline_chart(alike: Sequence[_Alike], roofline: Roofline) -> Html:
    """Both roofs, and every layer at its intensity and its predicted rate, on logarithmic axes."""
    spots = [
        (one.name, one.estimate, one.layer.operations() / one.estimate.seconds)
        for one in alike
        if one.estimate.intensity > 0 and one.layer.operations()
    ]
    intensities = [estimate.intensity for _, estimate, _ in spots] or [1.0]
    rates = [rate for *_, rate in spots] or [roofline.peak]
    across = _axis(min(intensities), max(4 * roofline.thresholds[1], *intensities), LEFT, WIDTH - RIGHT)
    up = _axis(min(rates), 2 * roofline.peak, HEIGHT - BOTTOM, TOP)
    circles = [
        element(
            "circle",
            element("title", tip := f"{name}; {estimate.intensity:.2f} operations per byte; {_si(rate)}op/s; "
                                    f"{estimate.seconds * 1e6:.1f} us; {estimate.verdict}"),
            cx=round(across.place(math.log10(estimate.intensity)), 1), cy=round(up.place(math.log10(rate)), 1), r=5,
            class_=f"line-{VERDICTS.index(estimate.verdict)}", data_tip=tip,
        )
        for name, estimate, rate in spots
    ]  # fmt: skip
    drawn = element(
        "svg",
        _decades(across, up),
        *(_roof(roofline, bandwidth, across, up) for bandwidth in _bandwidths(roofline)),
        *circles,
        element("text", "operations per byte", x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 6, class_="axis"),
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        aria_label="Roofline: the table below has its figures",
    )
    title = "Operations per second over operations per byte: layers, and the roofs of memory, L2 cache and arithmetic"
    return element("figure", element("figcaption", title), drawn, legend(VERDICTS), class_="chart")


def _axis(low: float, high: float, start: float, end: float) -> Axis:
    """Of decimal logarithms, from one power of ten to another."""
    return Axis(math.floor(math.log10(low)), math.ceil(math.log10(high)), start, end)


def _bandwidths(roofline: Roofline) -> list[float]:
    l2 = roofline.gpu.l2_bandwidth
    return [roofline.gpu.memory_bandwidth, *([l2] if l2 else [])]


def _roof(roofline: Roofline, bandwidth: float, across: Axis, up: Axis) -> Html:
    """From the left edge up to the ridge, and flat on."""
    ridge = math.log10(roofline.peak / bandwidth)
    first = max(across.low, up.low - math.log10(bandwidth))
    corners = [(first, first + math.log10(bandwidth)), (ridge, math.log10(roofline.peak)),
               (across.high, math.log10(roofline.peak))]  # fmt: skip
    way = "M" + "L".join(f"{across.place(x):.1f} {up.place(y):.1f}" for x, y in corners)
    return element("path", d=way, class_="roof")


def _decades(across: Axis, up: Axis) -> Html:
    parts = []
    for power in range(round(across.low), round(across.high) + 1):
        x = across.place(power)
        parts += [element("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, class_="grid"),
                  element("text", f"{10.0**power:g}", x=x, y=HEIGHT - BOTTOM + 17, class_="tick")]  # fmt: skip
    for power in range(round(up.low), round(up.high) + 1):
        y = up.place(power)
        parts += [element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"),
                  element("text", _si(10.0**power), x=LEFT - 6, y=y + 4, class_="tick left")]  # fmt: skip
    return joined(parts)


def _si(value: float) -> str:
    power = min(15, max(0, 3 * math.floor(math.log10(value) / 3 + 1e-9)))
    return f"{value / 10**power:.3g} {PREFIXES[power]}"
