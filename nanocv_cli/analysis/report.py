"""The analysis on paper: tables as text, Markdown and CSV, and the JSON document."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nanocv_cli.analysis.layer import Layer, Model
from nanocv_cli.analysis.roofline import Point, Roofline, Turn
from nanocv_cli.untrusted import escaped

FORMATS = ("table", "markdown", "csv")
UNITS = ("flops", "macs")
BYTE_MODEL = (
    "bytes: each operation reads its inputs and weights once and writes its outputs once; nothing stays on the chip "
    "between two of them, and views move nothing"
)

Rows = list[list[str]]


def render(header: Sequence[str], rows: Rows, form: str) -> list[str]:
    """The lines of a table in one of `FORMATS`; columns whose header begins with `<` are text, the others numbers."""
    left = [name.startswith("<") for name in header]
    names = [name.removeprefix("<") for name in header]
    # A graph's names may hold anything; here already, for columns are as wide as what is shown.
    rows = [[escaped(cell) for cell in row] for row in rows]
    if form == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([names, *rows])
        return text.getvalue().splitlines()
    if form == "markdown":
        lines = [names, [":--" if is_left else "--:" for is_left in left], *rows]
        return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    widths = [max(len(line[column]) for line in [names, *rows]) for column in range(len(names))]
    return [
        "  ".join(
            cell.ljust(width) if is_left else cell.rjust(width)
            for cell, width, is_left in zip(line, widths, left, strict=True)
        ).rstrip()
        for line in [names, *rows]
    ]


def layer_table(model: Model, at: Point, unit: str, form: str, order: Sequence[int]) -> list[str]:
    """One row per layer, then the total; a layer that runs several times on end stands once, with its sums.

    Args:
        model: what is analysed.
        at: its estimates.
        unit: `flops` (two per multiply-add) or `macs`.
        form: one of `FORMATS`.
        order: which layers, in which order.
    """
    exact = form == "csv"
    million, name = (2e6, "MMACs") if unit == "macs" else (1e6, "MFLOPs")
    header = ["<layer", "<kind", "<kernel", "in", "out", "<in size", "<out size", name, "share", "other Mops", "params",
              "weights B", "inputs B", "outputs B", "op/B", "<verdict", "us"]  # fmt: skip
    total = model.flops(at.batch)
    rows: Rows = []
    for number, turns in _runs(model, order):
        layer, estimate = model.layers[number], at.layers[number]
        times = turns * (at.batch if layer.per_image else 1)
        flops = turns * layer.flops(at.batch)
        rows.append(
            [
                layer.name if turns == 1 else f"{layer.name} x{turns}",
                layer.kind,
                layer.kernel,
                _text(layer.in_channels),
                _text(layer.out_channels),
                _size(layer.in_size),
                _size(layer.out_size),
                f"{flops / million:.3f}",
                f"{flops / total:.1%}" if total else "",
                f"{layer.other_ops * times / 1e6:.3f}",
                str(layer.params) if exact else f"{layer.params:,}",
                _bytes(turns * layer.weights.bytes(at.dtype), exact),
                _bytes(layer.inputs.bytes(at.dtype) * times, exact),
                _bytes(layer.outputs.bytes(at.dtype) * times, exact),
                f"{estimate.intensity:.2f}",
                estimate.verdict,
                f"{turns * estimate.seconds * 1e6:.1f}",
            ]
        )
    other = model.operations(at.batch) - total
    moved = [sum(part(layer, at) for layer in model.layers) for part in (_weights, _inputs, _outputs)]
    rows.append([
        "total", "", "", "", "", "", "", f"{total / million:.3f}", "100.0%" if total else "", f"{other / 1e6:.3f}",
        str(model.params) if exact else f"{model.params:,}", *(_bytes(value, exact) for value in moved),
        f"{at.intensity:.2f}", at.verdict, f"{at.seconds * 1e6:.1f}",
    ])  # fmt: skip
    return render(header, rows, form)


def _runs(model: Model, order: Sequence[int]) -> list[tuple[int, int]]:
    """The layers of an order, each with how often it stands there on end."""
    found: list[tuple[int, int]] = []
    for number in order:
        former = model.layers[found[-1][0]] if found else None
        if former and replace(former, params=0) == replace(model.layers[number], params=0):
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((number, 1))
    return found


def sweep_table(points: Sequence[Point], form: str) -> list[str]:
    """The whole model at each batch size and data type."""
    header = ["<dtype", "batch", "op/B", "<verdict", "ms", "images/s", "memory-bound", "cache", "compute-bound",
              "latency-bound"]  # fmt: skip
    rows = []
    for at in points:
        found = [layer.verdict for layer in at.layers]
        counts = [found.count(name) for name in ("memory-bound", "depends on the cache", "compute-bound")]
        rows.append([
            at.dtype, str(at.batch), f"{at.intensity:.2f}", at.verdict, f"{at.seconds * 1e3:.3f}",
            f"{at.throughput:.0f}", *map(str, counts), str(found.count("latency-bound")),
        ])  # fmt: skip
    return render(header, rows, form)


def moves_table(model: Model, points: Sequence[Point], turns: Sequence[Turn], form: str) -> list[str]:
    """How each multiplying layer moves over the points, and from which batch on it is compute-bound."""
    marks = {"memory-bound": "m", "depends on the cache": "d", "compute-bound": "c", "latency-bound": "l"}
    header = ["<layer", *(f"{at.dtype} b{at.batch}" for at in points), "<compute-bound from"]
    rows = [
        [
            layer.name,
            *(f"{at.layers[number].intensity:.1f} {marks[at.layers[number].verdict]}" for at in points),
            f"batch {turn.batch}" if turn.batch else f"never: {turn.reason}",
        ]
        for number, _ in _runs(model, range(len(model.layers)))
        for layer, turn in [(model.layers[number], turns[number])]
        if layer.macs
    ]
    return render(header, rows, form)


def notes(model: Model, roofline: Roofline) -> list[str]:
    """What a reader must know to use the figures, one line each."""
    gpu = roofline.gpu
    l2, memory = roofline.thresholds
    first = (
        f"below {l2:.0f} memory-bound, above {memory:.0f} compute-bound" if l2 else f"compute-bound above {memory:.0f}"
    )
    lines = [
        f"{gpu.title}, {roofline.dtype}: peak {roofline.peak / 1e12:.4g} TFLOP/s, memory "
        f"{gpu.memory_bandwidth / 1e9:.4g} GB/s; operations per byte: {first}",
        "1 multiply-add = 1 MAC = 2 FLOPs; biases are not counted; other operations (other Mops) count in op/B",
        BYTE_MODEL,
    ]
    lines += [f"assumed: {assumption}" for assumption in model.assumptions]
    if model.least_macs is not None and model.least_macs != model.macs:
        lines.append(f"if no score passes its threshold: {2 * model.least_macs / 1e6:,.3f} MFLOPs an image")
    if uncounted := model.uncounted():
        names = ", ".join(f"{name} x{count}" for name, count in sorted(uncounted.items()))
        lines.append(f"arithmetic not counted: {names}")
    return lines


def layer_json(layer: Layer, number: int, at: Point) -> dict[str, Any]:
    """One layer of the contract's document; sizes in values, time in seconds."""
    estimate = at.layers[number]
    times = at.batch if layer.per_image else 1
    return {
        "name": layer.name,
        "kind": layer.kind,
        "operator": layer.operator,
        "kernel": layer.kernel,
        "in_channels": layer.in_channels,
        "out_channels": layer.out_channels,
        "in_size": list(layer.in_size),
        "out_size": list(layer.out_size),
        "flops": layer.flops(at.batch),
        "macs": layer.flops(at.batch) // 2,
        "other_ops": layer.other_ops * times,
        "params": layer.params,
        "bytes": layer.bytes(at.dtype, at.batch),
        "weight_bytes": layer.weights.bytes(at.dtype),
        "input_bytes": layer.inputs.bytes(at.dtype) * times,
        "output_bytes": layer.outputs.bytes(at.dtype) * times,
        "intensity": estimate.intensity,
        "verdict": estimate.verdict,
        "blocks": estimate.blocks,
        "roof_seconds": estimate.roof_seconds,
        "seconds": estimate.seconds,
    }


def document(model: Model, roofline: Roofline, at: Point) -> dict[str, Any]:
    """The contract's JSON document."""
    return {
        "model": model.name,
        "input": list(model.inputs),
        "gpu": roofline.gpu.name,
        "dtype": at.dtype,
        "batch_size": at.batch,
        "thresholds": list(roofline.thresholds),
        "layers": [layer_json(layer, number, at) for number, layer in enumerate(model.layers)],
        "total": {
            "flops": model.flops(at.batch),
            "macs": model.flops(at.batch) // 2,
            "flops_at_least": model.flops(at.batch) if model.least_macs is None else 2 * model.least_macs * at.batch,
            "other_ops": model.operations(at.batch) - model.flops(at.batch),
            "params": model.params,
            "bytes": model.bytes(at.dtype, at.batch),
            "intensity": at.intensity,
            "verdict": at.verdict,
            "seconds": at.seconds,
        },
        "uncounted": model.uncounted(),
        "assumptions": list(model.assumptions),
        "byte_model": BYTE_MODEL,
    }


def sweep_json(points: Sequence[Point], turns: Sequence[Turn], model: Model) -> dict[str, Any]:
    """The sweep's part of the document."""
    return {
        "batch_sizes": [
            {
                "batch_size": at.batch,
                "dtype": at.dtype,
                "intensity": at.intensity,
                "verdict": at.verdict,
                "seconds": at.seconds,
                "throughput": at.throughput,
                "layers": [{"intensity": layer.intensity, "verdict": layer.verdict} for layer in at.layers],
            }
            for at in points
        ],
        "compute_bound_from": [
            {"name": layer.name, "batch_size": turn.batch, "reason": turn.reason}
            for layer, turn in zip(model.layers, turns, strict=True)
        ],
    }


def _weights(layer: Layer, at: Point) -> int:
    return layer.weights.bytes(at.dtype)


def _inputs(layer: Layer, at: Point) -> int:
    return layer.inputs.bytes(at.dtype) * (at.batch if layer.per_image else 1)


def _outputs(layer: Layer, at: Point) -> int:
    return layer.outputs.bytes(at.dtype) * (at.batch if layer.per_image else 1)


def _text(value: int | None) -> str:
    return "" if value is None else str(value)


def _size(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def _bytes(count: int, exact: bool) -> str:
    if exact:
        return str(count)
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= factor:
            return f"{count / factor:.2f}{unit}"
    return str(count)
