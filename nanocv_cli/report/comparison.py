"""Several models side by side: their figures, whether these differ by more than noise, and how they were asked for."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nanocv_cli.config.located import flatten
from nanocv_cli.evaluation.bootstrap import SEED, Interval, interval
from nanocv_cli.report.line_chart import Line, line_chart, spread
from nanocv_cli.report.markup import Html, element, figure_text, joined, note, table
from nanocv_cli.report.measured_section import interval_text, single_figures
from nanocv_cli.report.page import write_page
from nanocv_cli.report.section import Section
from nanocv_cli.report.subject import Story
from nanocv_cli.report.training_sections import value_text
from nanocv_cli.rooms import Score

if TYPE_CHECKING:  # the training side imports torch
    from nanocv_cli.evaluation.evidence import Evidence

NOISE = (
    "The interval holds 95 % of the differences on splits drawn, with replacement, from the images. Where it holds 0, "
    "the difference is within the noise of these images. Two models that answered the same images are drawn the same "
    "ones (paired); else each is drawn its own. What another seed of training would give is no part of it."
)


def write_comparison(stories: Sequence[Story], target: Path) -> list[Section]:
    """Writes the page of several models and returns its sections.

    Args:
        stories: at least two; the others are compared with the first.
        target: the file.

    Raises:
        StorageError: it cannot be written.
    """
    names = _names(stories)
    sections = [
        _figures(stories, names),
        _differences(stories, names),
        _learning(stories, names),
        _config(stories, names),
    ]
    lead = "; ".join(f"{name}: {story.subject.place}" for name, story in zip(names, stories, strict=True))
    header = joined([element("h1", f"{len(stories)} models side by side"), element("p", lead, class_="lead")])
    write_page(target, " beside ".join(names), header, sections)
    return sections


def _names(stories: Sequence[Story]) -> list[str]:
    """What each is called: where two have one name, where they lie."""
    names = Counter(story.subject.name for story in stories)
    return [
        story.subject.name if names[story.subject.name] == 1 else f"{number}: {story.subject.place}"
        for number, story in enumerate(stories, 1)
    ]


def _metrics(story: Story) -> dict[str, float | None]:
    """As they were measured now, else as the card tells them."""
    return single_figures(story.evidence.value.metrics if story.evidence.value else story.subject.card.metrics)


def _figures(stories: Sequence[Story], names: Sequence[str]) -> Section:
    metrics = list(dict.fromkeys(name for story in stories for name in _metrics(story)))
    rows = []
    for name, story in zip(names, stories, strict=True):
        found, own, summary = story.evidence.value, _metrics(story), story.subject.summary.value
        where = f"{found.data} {found.split}, {found.n:,} images" if found else "told by its card"
        rows.append(
            (
                name,
                *(_with_interval(own.get(metric), found, metric) for metric in metrics),
                summary.epochs if summary else None,
                summary.seconds if summary else None,
                story.subject.graph.stat().st_size / 1e6,
                where,
                story.subject.card.task,
            )
        )
    header = ["model", *metrics, "epochs", "seconds of training", "MB of graph", "measured on", "task"]
    told = [
        note("A click on a column's name sorts by it. Below a figure stands its 95 % interval, where it has one."),
        table(header, rows, words=(0, len(header) - 2, len(header) - 1), sortable=True),
    ]
    reasons = [
        note(f"{name} could not be measured now: {story.evidence.why_not}")
        for name, story in zip(names, stories, strict=True)
        if story.evidence.value is None
    ]
    return Section("figures", "Side by side", joined([*told, *reasons]))


def _with_interval(value: float | None, evidence: "Evidence | None", metric: str) -> Any:
    """A figure that sorts by its value, its interval below it."""
    within = interval_text(evidence, metric) if evidence else ""
    if value is None or not within:
        return value
    return joined([element("span", figure_text(value), data_value=repr(value)),
                   element("span", within, class_="within")])  # fmt: skip


def _differences(stories: Sequence[Story], names: Sequence[str]) -> Section:
    title, first = f"Against {names[0]}", stories[0]
    rows = [
        row
        for name, story in zip(names[1:], stories[1:], strict=True)
        for metric in _metrics(story)
        if (row := _difference(name, metric, first, story)) is not None
    ]
    if not rows:
        return Section("differences", title, None, "no two models have a metric in common")
    header = ["model", "metric", f"of {names[0]}", "its own", "difference", "95 % interval", "significance", "draws"]
    told = [note(NOISE), table(header, rows, words=(0, 1, 6, 7), sortable=True)]
    return Section("differences", title, joined(told))


def _difference(name: str, metric: str, first: Story, other: Story) -> tuple[object, ...] | None:
    left, right = _metrics(first).get(metric), _metrics(other).get(metric)
    if left is None or right is None:
        return None
    found = noise(first.evidence.value, other.evidence.value, metric)
    apart = right - left
    if found is None:
        return (name, metric, left, right, apart, "–", element("span", "not known", class_="noise"), "–")
    within, how = found
    significance = _significance(apart, within, metric, other.subject.score)
    return (
        name,
        metric,
        left,
        right,
        apart,
        f"{figure_text(within.low)} to {figure_text(within.high)}",
        significance,
        how,
    )


def noise(left: "Evidence | None", right: "Evidence | None", metric: str) -> tuple[Interval, str] | None:
    """The interval of how much a metric of the second is above that of the first, and how it was drawn.

    None where one of them was not measured, or the metric is no matter of single images.
    """
    if left is None or right is None or metric not in left.resampled or metric not in right.resampled:
        return None
    own, others = left.resampled[metric], right.resampled[metric]
    is_paired = (left.fingerprint, left.n) == (right.fingerprint, right.n)
    if not is_paired:  # one seed drew both: in another order, one tells nothing of the other
        own = np.random.default_rng(SEED).permutation(own)
    found = interval(others - own)
    return (found, "paired" if is_paired else "apart") if found else None


def _significance(apart: float, within: Interval, metric: str, score: Score) -> Html:
    """Whether the difference exceeds the noise; of the task's own score also whether it is for the better."""
    if within.holds(0.0):
        return element("span", "within the noise", class_="noise")
    if metric != score.name:
        return element("span", "beyond the noise")
    is_better = (apart < 0) == score.lowest_is_best
    word = "better" if is_better else "worse"
    return element("span", f"beyond the noise, {word}", class_=word)


def _learning(stories: Sequence[Story], names: Sequence[str]) -> Section:
    by_score: dict[str, list[Line]] = {}
    for name, story in zip(names, stories, strict=True):
        epochs = story.subject.history.value.epochs if story.subject.history.value else []
        points = tuple((float(row.epoch), row.val_score) for row in epochs if row.val_score is not None)
        if points:
            by_score.setdefault(story.subject.score.name, []).append(Line(name, points))
    charts = [
        line_chart(f"val {score}", "epoch", lines, spread([y for line in lines for _, y in line.points]), True)
        for score, lines in by_score.items()
    ]
    if not charts:
        return Section("curves", "How they learnt", None, "none of them kept its epochs")
    return Section("curves", "How they learnt", element("div", *charts, class_="pair"))


def _config(stories: Sequence[Story], names: Sequence[str]) -> Section:
    values = [flatten(story.subject.card.config) for story in stories]
    keys = sorted(set().union(*values))
    rows = [
        (key, *cells)
        for key in keys
        if len(set(cells := [value_text(own[key]) if key in own else "–" for own in values])) > 1
    ]
    title = "What was asked differently"
    if not rows:
        return Section("config", title, note("Nothing: all values of their configs are the same."))
    return Section("config", title, table(["key", *names], rows, words=tuple(range(len(names) + 1))))
