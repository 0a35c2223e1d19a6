"""Which configuration to use, and the rule that says so."""

from collections.abc import Sequence
from dataclasses import dataclass

from nanocv_cli.bench.sweep import Row

P99_SLACK = 1.5


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
