"""What speed costs of a model's metric: the score of each graph against the latency of each way to run it, as PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanocv_cli.bench.model import ModelRow
from nanocv_cli.bench.report import Choice
from nanocv_cli.files import save_chart
from nanocv_cli.rooms import Score, room
from nanocv_cli.untrusted import in_chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3
MARKERS = "osD^vPX"  # by number of threads
LINE = 0.055  # height of a label's line, as a share of the axes


class NoChart(Exception):
    """Why the rows have no common picture, in words."""


def scores_of(rows: Sequence[ModelRow]) -> tuple[Score, list[float | None]]:
    """Each row's value of the metric that its task ranks models by, all measured on the same images.

    A graph of less precision was measured on a split together with the one in fp32 that it was made of, which itself
    may have been measured on another one: that one's row then takes the value that stands in the other's card.

    Returns:
        the metric, and a value for each row; None where nobody has measured what the row computes.

    Raises:
        NoChart: they have no metric in common, or were not measured on the same images.
    """
    tasks = sorted({row.task for row in rows})
    if len(tasks) > 1:
        raise NoChart(f"{' and '.join(tasks)} have no metric in common")
    score = room(tasks[0]).score
    compared = {_origin(row): (row.split, row.before) for row in rows if row.before}
    values: list[float | None] = []
    measured_on: set[tuple[str, str]] = set()
    for row in rows:
        own = row.split, row.metrics
        split, metrics = own if row.before else compared.get(_origin(row), own)
        value = metrics.get(score.name)
        if row.drop is None or not isinstance(value, int | float):
            values.append(None)
            continue
        values.append(float(value))
        measured_on.add((row.data, split))
    if not measured_on:
        raise NoChart(f"the model card of {rows[0].model} tells no {score.name}")
    if len(measured_on) > 1:
        told = " and ".join(sorted(" ".join(filter(None, one)) or "an unknown set" for one in measured_on))
        raise NoChart(f"the models were measured on {told}")
    return score, values


def front_of(points: Sequence[tuple[float, float]], lowest_is_best: bool = False) -> list[int]:
    """The points that no other beats: none has both a lower latency and a better score. By latency, lowest first.

    Args:
        points: latency and score of each.
        lowest_is_best: of scores.
    """
    sign = -1.0 if lowest_is_best else 1.0
    front: list[int] = []
    best = float("-inf")
    for number, point in sorted(enumerate(points), key=lambda pair: (pair[1][0], -sign * pair[1][1])):
        if sign * point[1] > best:
            front.append(number)
            best = sign * point[1]
    return front


def draw_scores(rows: Sequence[ModelRow], choice: Choice, slo_p99_us: float | None, target: Path) -> None:
    """Writes one panel for each batch size: score against the median latency of a run, with the Pareto front.

    A thin line goes on to the 99th percentile. The chosen row has a ring.

    Raises:
        NoChart: see `scores_of`.
        StorageError: it cannot be written.
    """
    from matplotlib.figure import Figure

    score, values = scores_of(rows)
    known = [(number, row, value) for number, (row, value) in enumerate(zip(rows, values, strict=True))
             if value is not None]  # fmt: skip
    sizes = sorted({row.batch_size for _, row, _ in known})
    colours = {name: f"C{place}" for place, name in enumerate(dict.fromkeys(row.engine for row in rows))}
    threads = sorted({row.threads for row in rows})
    markers = {count: MARKERS[place % len(MARKERS)] for place, count in enumerate(threads)}
    columns = 2 if len(sizes) == 4 else min(COLUMNS, len(sizes))
    lines = -(-len(sizes) // columns)
    figure = Figure(figsize=(3.6 * columns + 2.6, 3.3 * lines + 1.1), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for place, (axes, size) in enumerate(zip(panels, sizes, strict=False)):
        own = [(number, row, value) for number, row, value in known if row.batch_size == size]
        for number, row, value in own:
            colour, at = colours[row.engine], row.p50_us / 1e3
            axes.plot([at, row.p99_us / 1e3], [value, value], color=colour, alpha=0.35, linewidth=1.2, zorder=2)
            axes.scatter(at, value, s=42, color=colour, marker=markers[row.threads], zorder=3)
            if number == choice.row:
                axes.scatter(at, value, s=190, facecolors="none", edgecolors="k", zorder=4)
        points = [(row.p50_us / 1e3, value) for _, row, value in own]
        front = [points[number] for number in front_of(points, score.lowest_is_best)]
        axes.plot(*zip(*front, strict=True), color="0.6", drawstyle="steps-post", zorder=1)
        if slo_p99_us is not None:
            axes.axvline(slo_p99_us / 1e3, color="0.4", linestyle=":", linewidth=1)
        axes.set_title(f"batches of {size}", fontsize=10)
        axes.set_xscale("log")
        axes.grid(alpha=0.25)
        if place % columns == 0:
            axes.set_ylabel(f"{score.name}, {in_chart(rows[0].data)}".rstrip(", "))
        if place + columns >= len(sizes):
            axes.set_xlabel("latency of a run, ms")
            axes.tick_params(labelbottom=True)
    for axes in panels[len(sizes) :]:
        axes.set_visible(False)
    _scale(panels[0], score, [value for _, _, value in known])
    graphs = {row.model: (f"{in_chart(row.name)} {in_chart(row.precision)}  {score.shown(value)}", value)
              for _, row, value in known}  # fmt: skip
    for axes in panels[columns - 1 : len(sizes) : columns]:
        _name_graphs(axes, list(graphs.values()))
    for name, colour in colours.items():
        panels[0].scatter([], [], s=42, color=colour, label=name)
    for count, marker in markers.items() if len(markers) > 1 else ():
        label = f"{count} thread" + ("s" if count != 1 else "") if count else "threads by itself"
        panels[0].scatter([], [], s=42, color="0.4", marker=marker, label=label)
    panels[0].plot([], [], color="0.6", label="Pareto front")
    panels[0].plot([], [], color="0.4", alpha=0.5, linewidth=1.2, label="to p99")
    if slo_p99_us is not None:
        panels[0].plot([], [], color="0.4", linestyle=":", linewidth=1, label="highest p99 allowed")
    if choice.row is not None:
        panels[0].scatter([], [], s=110, facecolors="none", edgecolors="k", label="to use")
    figure.legend(loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    save_chart(figure, target)


def _origin(row: ModelRow) -> tuple[str, str, str]:
    """The same for graphs that were made of one another."""
    return row.name, row.data, row.config_hash


def _scale(axes: "Axes", score: Score, values: Sequence[float]) -> None:
    """Scores with a margin, at least a point in height, the best on top; latencies in plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = min(values), max(values)
    margin = max(0.15 * (high - low), 0.005 if score.is_share else 0.01 * max(abs(low), abs(high), 1e-9))
    edges = (low - margin, high + margin)
    axes.set_ylim(edges[::-1] if score.lowest_is_best else edges)
    if score.is_share:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    left, right = axes.get_xlim()
    spans_much = right / left > 30
    axes.xaxis.set_major_locator(LogLocator(10.0, (1.0,) if spans_much else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _name_graphs(axes: "Axes", graphs: Sequence[tuple[str, float]]) -> None:
    """Names to the right of a panel, at the height of their score, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    wanted = sorted(((value - low) / (high - low), value, text) for text, value in graphs)
    places: list[float] = []
    for share, _, _ in wanted:
        places.append(max(share, places[-1] + LINE) if places else share)
    excess = max(0.0, places[-1] - 1.0)
    places = [place - excess for place in places]
    arrow: dict[str, Any] = {"arrowstyle": "-", "color": "0.75", "linewidth": 0.6, "shrinkA": 1, "shrinkB": 0}
    for place, (share, _, text) in zip(places, wanted, strict=True):
        axes.annotate(
            text, (1.0, share), xycoords="axes fraction", xytext=(1.04, place), textcoords="axes fraction",
            fontsize=8, va="center", arrowprops=arrow, annotation_clip=False,
        )  # fmt: skip
