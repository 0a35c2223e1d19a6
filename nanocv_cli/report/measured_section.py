"""What the model is worth: the task's standard metrics."""

from typing import Any

from nanocv_cli.report.markup import element, figure_text, joined, note, table
from nanocv_cli.report.section import Section
from nanocv_cli.report.subject import Subject


def metrics_section(subject: Subject) -> Section:
    """Single figures, then a table for each that is told by name."""
    metrics = subject.card.metrics
    if not metrics:
        return Section("metrics", "How good it is", None, f"the card of {subject.name} holds no metrics")
    told = [
        note(f"Measured on the {subject.card.split or 'held-out'} split of {subject.card.data} when it was trained."),
        table(["metric", "value"], [(name, value) for name, value in single_figures(metrics).items()]),
    ]
    for name, rows in metrics.items():
        if isinstance(rows, dict) and rows:
            told += [element("h3", name.replace("_", " ")), named_figures(rows)]
    return Section("metrics", "How good it is", joined(told))


def single_figures(metrics: dict[str, Any]) -> dict[str, float | None]:
    """The metrics that are one figure, or would be if anything decided it."""
    return {
        name: value
        for name, value in metrics.items()
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    }


def named_figures(rows: dict[str, Any]) -> Any:
    """A mapping of mappings as a table with a row for each name; a mapping of values as one with two columns."""
    if all(isinstance(row, dict) for row in rows.values()):
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        return table(["", *columns], [(name, *(_plain(row.get(column)) for column in columns))
                                      for name, row in rows.items()], sortable=True)  # fmt: skip
    return table(["", "value"], [(name, _plain(value)) for name, value in rows.items()])


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float) else figure_text(str(value))
