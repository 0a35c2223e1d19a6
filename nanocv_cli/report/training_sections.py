"""What a run was asked for, and how it learnt."""

import json
from collections.abc import Sequence

from nanocv_cli.config.located import flatten
from nanocv_cli.report.exhibit_markup import file_markup
from nanocv_cli.report.line_chart import Line, line_chart, spread
from nanocv_cli.report.markup import Html, element, folded, joined, note, table
from nanocv_cli.report.run_records import History
from nanocv_cli.report.section import Section
from nanocv_cli.report.subject import Subject
from nanocv_cli.rooms import Score

CURVES = "curves.png"
OPTION, DEFAULT, FROM = "--", "default", "--from"


def asked_section(subject: Subject) -> Section:
    """Every value of the config; those that an option of the command gave stand first and open."""
    values = flatten(subject.card.config)
    if not values:
        return Section("config", "What was asked", None, f"the card of {subject.name} holds no config")
    origins = subject.origins.value
    if origins is None:
        untraced = [(key, value_text(value)) for key, value in values.items()]
        told = [
            note(f"Where each value came from is not known: {subject.origins.why_not}"),
            folded(f"All {len(untraced)} values", table(["key", "value"], untraced, words=(0, 1))),
        ]
        return Section("config", "What was asked", joined(told))
    asked = [(key, value_text(value), origins.get(key, "not told")) for key, value in values.items()]
    header = ["key", "value", "from"]
    chosen = [row for row in asked if row[2].startswith(OPTION)]
    left = [row for row in asked if row[2] == DEFAULT]
    filed = [row for row in asked if row not in chosen and row not in left]
    told = [table(header, chosen, words=(0, 1, 2)) if chosen else note("No option gave a value.")]
    if subject.summary.value and (start := subject.summary.value.start):
        told.append(note(start.text()))
    for title, rows in ((f"{len(filed)} from config files", filed), (f"{len(left)} defaults", left)):
        if rows:
            told.append(folded(title, table(header, rows, words=(0, 1, 2))))
    return Section("config", "What was asked", joined(told))


def value_text(value: object) -> str:
    """A config value as `--set` takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def learning_section(subject: Subject) -> Section:
    """Loss and score over the epochs; of a run that kept no figures its own drawing of them."""
    history, score = subject.history.value, subject.score
    if history is None or not history.epochs:
        why_not = subject.history.why_not or "no epoch was evaluated"
        if curves := [path for path in subject.drawn if path.name == CURVES]:
            told = [note(f"As the run drew it: {why_not}"), *map(file_markup, curves)]
            return Section("curves", "How it learnt", joined(told))
        return Section("curves", "How it learnt", None, why_not)
    charts = [chart for chart in (loss_chart(history), score_chart(history, score)) if chart is not None]
    rows = [
        (row.epoch, row.train_loss, row.train_score, row.val_loss, row.val_score, row.learning_rate, row.seconds,
         "kept" if row.is_best else "")
        for row in history.epochs
    ]  # fmt: skip
    header = ["epoch", "train loss", f"train {history.live}", "val loss", f"val {score.name}",
              "learning rate", "seconds", "weights"]  # fmt: skip
    told = [
        element("div", *charts, class_="pair"),
        note(_kept_text(history, score)),
        folded(f"All {len(rows)} epochs", table(header, rows, words=(7,))),
    ]
    return Section("curves", "How it learnt", joined(told))


def _kept_text(history: History, score: Score) -> str:
    kept = next((row for row in reversed(history.epochs) if row.is_best), None)
    if kept is None:
        return "No epoch's weights were kept."
    which = "last" if score.last_is_best else "lowest" if score.lowest_is_best else "best"
    value = score.shown(kept.val_score) if kept.val_score is not None else "not told"
    return f"The weights of epoch {kept.epoch} were kept: the {which} val {score.name}, {value}."


def loss_chart(history: History) -> Html | None:
    """Of train and val; None where no epoch has one."""
    train = [(row.epoch, row.train_loss) for row in history.epochs]
    val = [(row.epoch, row.val_loss) for row in history.epochs]
    return _chart("loss", [("train", train), ("val", val)], is_share=False)


def score_chart(history: History, score: Score) -> Html | None:
    """Of train and val; None where no epoch has one."""
    train = [(row.epoch, row.train_score) for row in history.epochs]
    val = [(row.epoch, row.val_score) for row in history.epochs]
    name, live = score.name, history.live
    title = name if name == live else f"{name} (val), {live} (train)"
    return _chart(title, [("train", train), ("val", val)], score.is_share)


def _chart(title: str, found: Sequence[tuple[str, Sequence[tuple[int, float | None]]]], is_share: bool) -> Html | None:
    lines = [
        Line(name, tuple((float(epoch), value) for epoch, value in points if value is not None))
        for name, points in found
    ]
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    bounds = spread([value for line in lines for _, value in line.points], is_share)
    return line_chart(title, "epoch", lines, bounds, whole_steps=True)
