"""The page of one model."""

from datetime import datetime
from pathlib import Path

from nanocv_cli.config.schema import GpuConfig
from nanocv_cli.display import Display
from nanocv_cli.report.bench_section import bench_section
from nanocv_cli.report.cost_section import cost_section
from nanocv_cli.report.data_section import data_section
from nanocv_cli.report.files_section import again_section, parity_section
from nanocv_cli.report.markup import Html, bytes_text, element, joined
from nanocv_cli.report.measured_section import (
    interval_text,
    made_section,
    metrics_section,
    mistakes_section,
    single_figures,
)
from nanocv_cli.report.page import tiles, write_page
from nanocv_cli.report.section import Section
from nanocv_cli.report.subject import Story
from nanocv_cli.report.training_sections import asked_section, learning_section


def write_report(story: Story, gpu: GpuConfig, target: Path, display: Display) -> list[Section]:
    """Writes the page of one model and returns its sections.

    Args:
        story: of the model.
        gpu: the device that its cost is told for.
        target: the file.
        display: where to tell of what takes long.

    Raises:
        StorageError: it cannot be written.
    """
    subject = story.subject
    sections = [
        metrics_section(subject, story.evidence),
        made_section(story.evidence),
        mistakes_section(story.evidence),
        learning_section(subject),
        data_section(story.dataset, display),
        asked_section(subject),
        parity_section(subject),
        cost_section(subject.graph, subject.card, gpu),
        bench_section(subject),
        again_section(subject),
    ]
    told = [section for section in sections if section is not None]
    write_page(target, f"{subject.name}: {subject.card.name} on {subject.card.data}", _header(story), told)
    return told


def _header(story: Story) -> Html:
    subject, evidence = story.subject, story.evidence.value
    card, summary = subject.card, subject.summary.value
    when = datetime.fromtimestamp(subject.graph.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
    metrics, split = (evidence.metrics, evidence.split) if evidence else (card.metrics, card.split)
    figures: list[tuple[str, str]] = []
    if (best := single_figures(metrics).get(subject.score.name)) is not None:
        within = interval_text(evidence, subject.score.name, subject.score.shown) if evidence else ""
        figures.append((f"{subject.score.name}, {split}{within and f' ({within})'}", subject.score.shown(best)))
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
