"""What a sweep comes to: which configuration to use, the table, and throughput against p99."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nanocv_cli.bench.sweep import Row

P99_SLACK = 1.5
COLUMNS = ("max batch", "delay us", "instances", "inf/s", "p50 us", "p90 us", "p95 us", "p99 us", "errors", "")
LABELS_SHOWN = 12


@dataclass(frozen=True)
class Choice:
    """The index of the chosen row, None where none fits, and the rule in words."""

    row: int | None
    rule: str


def choose(rows: Sequence[Row], slo_p99_us: float | None) -> Choice:
    """Of the rows without errors, the one with the highest throughput among those whose p99 is low enough.

    Args:
        rows: measured configurations.
        slo_p99_us: the highest p99 allowed; None allows 1.5 times the lowest p99 seen.
    """
    sound = [(number, row.figures) for number, row in enumerate(rows) if not row.figures.errors]
    if not sound:
        return Choice(None, "every configuration answered some requests with an error")
    if slo_p99_us is not None:
        rule = f"highest throughput with p99 of at most {slo_p99_us:.0f} us"
        limit = slo_p99_us
    else:
        lowest = min(figures.p99_us for _, figures in sound)
        limit = P99_SLACK * lowest
        rule = f"highest throughput with p99 within {P99_SLACK:g}x of the lowest p99 seen ({lowest:.0f} us)"
    fitting = [(number, figures) for number, figures in sound if figures.p99_us <= limit]
    if not fitting:
        return Choice(None, f"{rule}: no configuration is that fast")
    return Choice(max(fitting, key=lambda pair: pair[1].throughput)[0], rule)


def pareto(rows: Sequence[Row]) -> list[int]:
    """The rows that no other beats: none has both more throughput and a lower p99. By p99, lowest first."""
    front, best = [], -1.0
    for number, row in sorted(enumerate(rows), key=lambda pair: (pair[1].figures.p99_us, -pair[1].figures.throughput)):
        if row.figures.throughput > best:
            front.append(number)
            best = row.figures.throughput
    return front


def table(rows: Sequence[Row], choice: Choice) -> list[str]:
    """The header, then one line per configuration; the chosen one is marked."""
    lines: list[tuple[str, ...]] = [COLUMNS]
    for number, row in enumerate(rows):
        figures, setting = row.figures, row.setting
        notes = ["<- use this"] if number == choice.row else []
        notes += [] if figures.stable else ["not stable"]
        numbers = (setting.max_batch, setting.queue_delay_us, setting.instances)
        times = (figures.throughput, figures.p50_us, figures.p90_us, figures.p95_us, figures.p99_us)
        lines.append(
            (
                *("?" if value is None else str(value) for value in numbers),
                *(f"{value:.0f}" for value in times),
                str(figures.errors),
                ", ".join(notes),
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return [
        "  ".join(
            text.ljust(width) if column == len(COLUMNS) - 1 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def shares(row: Row) -> str:
    """Where a request's time went, in words."""
    figures = row.figures
    client = f"the client took {figures.client_cpu:.0%} of a core"
    if figures.server_us is None or figures.server_queue_us is None or figures.server_compute_us is None:
        return f"the server tells no statistics; {client}"
    return (
        f"of {figures.mean_us:.0f} us mean latency the model's queue and runs took {figures.server_share:.0%} "
        f"(queue {figures.server_queue_us:.0f}, compute {figures.server_compute_us:.0f} us; mean batch "
        f"{figures.batch_size:.1f}), protocol and client {figures.client_share:.0%}; {client}"
    )


def draw(rows: Sequence[Row], choice: Choice, title: str, target: Path) -> None:
    """Writes throughput against p99 as PNG, with the Pareto front and the chosen configuration.

    Raises:
        StorageError: it cannot be written.
    """
    from matplotlib.figure import Figure

    from nanocv_cli.files import save_chart
    from nanocv_cli.untrusted import in_chart

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    counts = sorted({row.setting.instances or 1 for row in rows})
    for place, count in enumerate(counts):
        group = [row.figures for row in rows if (row.setting.instances or 1) == count]
        label = f"{count} instance" + ("s" if count > 1 else "")
        places = [f.p99_us / 1e3 for f in group], [f.throughput for f in group]
        axes.scatter(*places, s=45, color=f"C{place}", label=label, zorder=3)
    front = [rows[number].figures for number in pareto(rows)]
    axes.plot(
        [f.p99_us / 1e3 for f in front],
        [f.throughput for f in front],
        color="0.6",
        drawstyle="steps-post",
        marker="o",
        markersize=11,
        markerfacecolor="none",
        label="Pareto front",
        zorder=1,
    )
    named = range(len(rows)) if len(rows) <= LABELS_SHOWN else pareto(rows)
    for number in named:
        row = rows[number]
        text = f"b{row.setting.max_batch} d{row.setting.queue_delay_us}"
        place_of = (row.figures.p99_us / 1e3, row.figures.throughput)
        axes.annotate(text, place_of, xytext=(6, 4), textcoords="offset points", fontsize=8)
    if choice.row is not None:
        chosen = rows[choice.row].figures
        ring = ([chosen.p99_us / 1e3], [chosen.throughput])
        axes.scatter(*ring, s=190, facecolors="none", edgecolors="k", label="to use", zorder=2)
    axes.margins(0.12)
    axes.set(xlabel="p99 latency, ms", ylabel="throughput, inf/s", title=in_chart(title))
    axes.grid(alpha=0.3)
    axes.legend()
    save_chart(figure, target)
