"""What a soak's samples say: the verdict, the figures, the curve."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from nanocv_cli.errors import NanocvError
from nanocv_cli.files import save_chart

WARM_UP_MINUTES = 10.0
MOST_GROWTH = 0.05
POOLED = 16  # threads of pools, of gRPC and ours, that grow to their bound when much waits for them
FAULTY = ("wrong", "failed")  # end the names of counts of what should not have been
MIB = 1 << 20
TOO_SHORT = "too short to tell"


@dataclass(frozen=True)
class Soak:
    """The lines of a soak's file.

    Attributes:
        start: what was run, and on what.
        samples: one every few seconds.
        end: what there was after all had gone; empty if it did not come to that.
    """

    start: dict[str, Any]
    samples: list[dict[str, Any]]
    end: dict[str, Any]


def read(path: Path) -> Soak:
    """The lines that are there; one that is still being written may lack its end.

    Raises:
        NanocvError: there is no such file, or the soak that writes it has not begun to count.
    """
    if not path.is_file():
        raise NanocvError(f"{path} is not there", "it is soak.jsonl in the folder that --out named")
    lines = [
        json.loads(line) for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1] == "\n"
    ]
    kinds = {kind: [line for line in lines if line["kind"] == kind] for kind in ("start", "sample", "end")}
    if not kinds["start"]:
        raise NanocvError(f"{path}: the soak is still warming up", "ask again in a minute")
    return Soak(kinds["start"][0], kinds["sample"], (kinds["end"] or [{}])[0])


def growth(soak: Soak) -> float | None:
    """By which part the server's memory grew after the warm-up: the median of the last part against that of the first.

    Both parts are as long as the warm-up, or a third of a soak that is too short for that; None where one of
    them has no sample.
    """
    minutes = _minutes(soak)
    part = min(WARM_UP_MINUTES, minutes / 3)
    first = [one["rss"] for one in soak.samples if part <= one["seconds"] / 60 < 2 * part]
    last = [one["rss"] for one in soak.samples if one["seconds"] / 60 >= minutes - part]
    return float(statistics.median(last) / statistics.median(first) - 1) if first and last else None


def faults(soak: Soak) -> list[str]:
    """What did not hold, a line each; none where all did."""
    grown, found = growth(soak), list[str]()
    if grown is None:
        found.append(f"growth of memory: {TOO_SHORT}")
    if not soak.end:
        return [*found, "the soak was not ended"]
    if grown is not None and grown >= MOST_GROWTH and soak.start["minutes"] >= 3 * WARM_UP_MINUTES:
        found.append(f"memory grew by {grown:.1%} after the first {WARM_UP_MINUTES:.0f} minutes")
    for what, more in (("descriptors", 0), ("threads", POOLED)):
        before, after = soak.start[what], soak.end[what]
        if after > before + more:
            found.append(f"{after} {what} after all had gone, {before} before they came")
    counts = soak.end["counts"]
    found += [f"{counts[kind]} {kind}" for kind in counts if kind.endswith(FAULTY)]
    if not counts.get("right"):
        found.append("no honest client was answered")
    return [*found, *soak.end["failures"], *soak.end["log"]]


def figures(soak: Soak) -> list[str]:
    """What a page quotes, a line each."""
    samples, start, grown = soak.samples, soak.start, growth(soak)
    rss = [one["rss"] / MIB for one in samples]
    held = {what: max((one[what] for one in samples), default="?") for what in ("descriptors", "threads")}
    return [
        f"revision {start['revision']}, {_minutes(soak):.3g} minutes of {start['minutes']:g}",
        f"share of a processor: {_median(samples, 'share', '{:.2f}')} (server and clients)",
        f"memory, MiB: {start['rss'] / MIB:.0f} at first, "
        + (f"{min(rss):.0f} to {max(rss):.0f} under load; " if rss else "")
        + (TOO_SHORT if grown is None else f"{grown:+.1%} after the warm-up"),
        *(
            f"{what}: {start[what]} before, at most {most}, {soak.end.get(what, '?')} after"
            for what, most in held.items()
        ),
        f"latency of honest clients, median over the samples: p50 {_median(samples, 'p50_ms')}, "
        f"p99 {_median(samples, 'p99_ms')}",
        *(f"{what}: {number:,}" for what, number in sorted(_counts(soak).items())),
    ]


def draw(soak: Soak, target: Path) -> Path:
    """Memory, descriptors with threads, and latency over time, as PNG."""
    minutes = [one["seconds"] / 60 for one in soak.samples]
    figure = Figure(figsize=(10, 7), layout="constrained")
    memory, held, latency = figure.subplots(3, sharex=True)
    memory.plot(minutes, _column(soak.samples, "rss", MIB), color="C0")
    memory.axvspan(0, min(WARM_UP_MINUTES, _minutes(soak)), color="0.92")
    memory.set(ylabel="memory (RSS), MiB", ylim=(0, None))
    held.plot(minutes, _column(soak.samples, "descriptors"), color="C1", label="descriptors")
    held.plot(minutes, _column(soak.samples, "threads"), color="C2", label="threads")
    held.axhline(soak.start["descriptors"], color="C1", linestyle=":", linewidth=1)
    held.set(ylabel="open at once", yscale="log", ylim=(10, None))
    held.yaxis.set_major_formatter(ScalarFormatter())
    held.yaxis.set_minor_formatter(NullFormatter())
    for key, colour in (("p50_ms", "C0"), ("p99_ms", "C3")):
        latency.plot(minutes, _column(soak.samples, key), color=colour, label=key.removesuffix("_ms"))
    latency.set(ylabel="latency, ms", yscale="log", xlabel="minutes", xlim=(0, _minutes(soak) or 1))
    latency.yaxis.set_major_formatter(ScalarFormatter())
    for axes in (memory, held, latency):
        axes.grid(alpha=0.25)
    for axes in (held, latency):
        axes.legend(loc="upper right", fontsize=8)
    counts = _counts(soak)
    bad = sum(number for kind, number in counts.items() if kind.endswith(FAULTY))
    told = f"{counts.get('right', 0):,} honest requests answered right to the bit, {bad:,} faults"
    memory.set_title(f"The embedded server under abuse: {told}")
    return save_chart(figure, target)


def _minutes(soak: Soak) -> float:
    """When the last sample was taken; 0 before the first."""
    return float(soak.samples[-1]["seconds"]) / 60 if soak.samples else 0.0


def _counts(soak: Soak) -> dict[str, int]:
    """What had been done at the end, or when the last sample was taken."""
    last = soak.end or (soak.samples or [{}])[-1]
    return dict(last.get("counts", {}))


def _median(samples: Sequence[dict[str, Any]], key: str, form: str = "{:.1f} ms") -> str:
    """Over the samples that have it, as text."""
    values = [one[key] for one in samples if one[key] is not None]
    return form.format(statistics.median(values)) if values else TOO_SHORT


def _column(samples: Sequence[dict[str, Any]], key: str, unit: float = 1) -> list[float]:
    return [float("nan") if one[key] is None else one[key] / unit for one in samples]
