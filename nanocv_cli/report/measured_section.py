"""What the model is worth: the task's metrics with their intervals, and what it gets wrong."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nanocv_cli.evaluation.bootstrap import interval
from nanocv_cli.report.exhibit_markup import figures_markup, file_markup, galleries_markup
from nanocv_cli.report.markup import Html, brief, element, figure_text, joined, note, table
from nanocv_cli.report.section import Found, Section
from nanocv_cli.report.subject import Subject
from nanocv_cli.report.training_sections import CURVES

if TYPE_CHECKING:  # the training side imports torch
    from nanocv_cli.evaluation.evidence import Evidence

TITLE, MISTAKES = "How good it is", "What it gets wrong"
INTERVALS = (
    "An interval holds 95 % of the values that the metric takes on splits drawn, with replacement, from these images: "
    "so much of the figure is the choice of the images. A metric that is no matter of single images has none."
)


def metrics_section(subject: Subject, found: "Found[Evidence]") -> Section:
    """Single figures with their intervals, then what is told by name, then matrices and curves."""
    evidence = found.value
    if evidence is None:
        return _told_by_card(subject, found.why_not)
    told: list[Html] = [
        note(f"The graph's answers to the {evidence.n:,} images of {evidence.data} {evidence.split}. {INTERVALS}"),
        table(["metric", "value", "95 % interval"], _interval_rows(evidence)),
        *_named(evidence.metrics),
        *figures_markup(evidence.exhibits),
    ]
    return Section("metrics", TITLE, joined(told))


def mistakes_section(found: "Found[Evidence]") -> Section:
    """The worst mistakes as images."""
    evidence = found.value
    if evidence is None:
        return Section("mistakes", MISTAKES, None, found.why_not)
    galleries = [gallery for gallery in evidence.exhibits.galleries if gallery.are_mistakes]
    if not galleries:
        why_not = f"among the {evidence.n:,} images of {evidence.data} {evidence.split} there is none to be shown"
        return Section("mistakes", MISTAKES, None, why_not)
    return Section("mistakes", MISTAKES, galleries_markup(galleries))


def made_section(found: "Found[Evidence]") -> Section | None:
    """Images that are no mistakes, as those that a model makes; None where there are none."""
    galleries = [each for each in found.value.exhibits.galleries if not each.are_mistakes] if found.value else []
    return Section("images", "What it makes", galleries_markup(galleries)) if galleries else None


def single_figures(metrics: dict[str, Any]) -> dict[str, float | None]:
    """The metrics that are one figure, or would be if anything decided it."""
    return {
        name: value
        for name, value in metrics.items()
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    }


def interval_text(evidence: "Evidence", name: str, shown: Callable[[float], str] = figure_text) -> str:
    """The interval of a metric, for people; empty where it has none.

    Args:
        evidence: of the model.
        name: of the metric.
        shown: how one of its values is written.
    """
    values = evidence.resampled.get(name)
    found = interval(values) if values is not None else None
    return f"{shown(found.low)} to {shown(found.high)}" if found else ""


def _interval_rows(evidence: "Evidence") -> list[tuple[object, ...]]:
    return [
        (name, value, interval_text(evidence, name) or "–") for name, value in single_figures(evidence.metrics).items()
    ]


def _told_by_card(subject: Subject, why_not: str) -> Section:
    metrics = subject.card.metrics
    if not metrics:
        return Section("metrics", TITLE, None, f"the card of {subject.name} holds no metrics, and {why_not}")
    split = f"{subject.card.data} {subject.card.split or 'held-out images'}"
    told = [
        note(f"Measured on {split} at the end of training. It cannot be measured again, so no interval: {why_not}"),
        table(["metric", "value"], list(single_figures(metrics).items())),
        *_named(metrics),
        *(file_markup(path) for path in subject.drawn if path.name != CURVES),
    ]
    return Section("metrics", TITLE, joined(told))


def _named(metrics: dict[str, Any]) -> list[Html]:
    """Figures that are told by name, under theirs."""
    return [
        joined([element("h3", name.replace("_", " ")), _table_by_name(rows)])
        for name, rows in metrics.items()
        if isinstance(rows, dict) and rows
    ]


def _table_by_name(rows: dict[str, Any]) -> Html:
    if all(isinstance(row, dict) for row in rows.values()):
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        lines = [(name, *(_plain(row.get(column)) for column in columns)) for name, row in rows.items()]
        return brief(table(["", *columns], lines, sortable=True), len(lines), "of them")
    return brief(table(["", "value"], [(name, _plain(value)) for name, value in rows.items()]), len(rows), "of them")


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float) else str(value)
