"""From subjects to the page."""

from datetime import datetime
from pathlib import Path

from nanocv_cli.report.markup import Html, bytes_text, element, joined
from nanocv_cli.report.measured_section import metrics_section, single_figures
from nanocv_cli.report.page import tiles, write_page
from nanocv_cli.report.section import Section
from nanocv_cli.report.subject import Subject
from nanocv_cli.report.training_sections import asked_section, learning_section


def write_report(subject: Subject, target: Path) -> list[Section]:
    """Writes the page of one model and returns its sections.

    Raises:
        StorageError: it cannot be written.
    """
    sections = [
        metrics_section(subject),
        learning_section(subject, None),
        asked_section(subject),
    ]
    write_page(target, f"{subject.name}: {subject.card.name} on {subject.card.data}", _header(subject), sections)
    return sections


def _header(subject: Subject) -> Html:
    card, summary = subject.card, subject.summary.value
    when = datetime.fromtimestamp(subject.graph.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
    best = single_figures(card.metrics).get(subject.score.name)
    figures = [(f"{subject.score.name}, {card.split}", subject.score.shown(best))] if best is not None else []
    if summary and summary.epochs is not None:
        figures.append(("epochs", f"{summary.epochs:,}"))
    if summary and summary.seconds is not None:
        figures.append(("seconds of training", f"{summary.seconds:,.0f}"))
    figures.append(("graph", bytes_text(subject.graph.stat().st_size)))
    return joined(
        [
            element("h1", f"{card.name} on {card.data}"),
            element("p", f"{card.task}, {len(card.classes)} classes, {card.input_size}x{card.input_size} pixels; ",
                    element("code", subject.place), f", {when}", class_="lead"),
            tiles(figures),
        ]
    )  # fmt: skip
