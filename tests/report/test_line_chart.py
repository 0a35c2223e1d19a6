"""Charts of any figures that a run may have kept."""

import json
import re

import pytest
from pydantic import TypeAdapter, ValidationError

from nanocv_cli.report.line_chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Line, line_chart, spread
from nanocv_cli.report.run_records import History

EXTREMES = [[0.0], [1.0, 1.0], [0.3, 0.3 + 1e-17], [-1e12, 1e12], [1e-300, 2e-300], [0.0, 1e-12], [5.0, 7.0]]


@pytest.mark.parametrize("values", EXTREMES)
@pytest.mark.parametrize("is_share", [True, False])
def test_any_values_are_drawn_within_the_frame(values: list[float], is_share: bool) -> None:
    low, high = spread(values, is_share)
    chart = line_chart("t", "epoch", [Line("a", tuple(enumerate(values)))], (low, high), whole_steps=True)
    figures = json.loads(re.search(r'data-chart="([^"]*)"', chart)[1].replace("&quot;", '"'))  # type: ignore[index]
    assert all(LEFT <= x <= WIDTH - RIGHT for x in figures["xs"])
    if not ((is_share and max(values) > 1.0) or min(values) < 0.0):
        assert all(TOP <= y <= HEIGHT - BOTTOM for y in figures["lines"][0]["ys"])
    assert len(figures["lines"][0]["texts"]) == len(values)


def test_a_place_without_a_figure_has_none() -> None:
    lines = [Line("a", ((1.0, 0.5), (2.0, 0.6))), Line("b", ((2.0, 0.1),))]
    chart = line_chart("t", "epoch", lines, (0.0, 1.0))
    figures = json.loads(re.search(r'data-chart="([^"]*)"', chart)[1].replace("&quot;", '"'))  # type: ignore[index]
    assert figures["lines"][1]["texts"] == [None, "0.1000"]


def test_ticks_are_round_and_few() -> None:
    assert Axis(0.0, 1.0, 0, 1).ticks() == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert Axis(0.97, 1.01, 0, 1).ticks() == pytest.approx([0.97, 0.98, 0.99, 1.0, 1.01])
    assert all(3 <= len(Axis(0.0, high, 0, 1).ticks()) <= 12 for high in (1e-9, 0.37, 3.0, 41.0, 1e12))


@pytest.mark.parametrize("row", [{"epoch": 1, "val_score": 1e300}, {"epoch": 10**40}, {"epoch": 1, "val_loss": "x"}])
def test_figures_that_no_training_has_are_no_history(row: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(History).validate_json(json.dumps({"live": "top1", "epochs": [row]}))
