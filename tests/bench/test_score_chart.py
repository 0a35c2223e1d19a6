"""Which scores can be set beside latencies, which points no other beats, and what is drawn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nanocv_cli.bench.report import Choice
from nanocv_cli.bench.score_chart import NoChart, draw_scores, front_of, scores_of
from tests.bench.rows import model_row

REDUCED: dict[str, Any] = {
    "model": "x-int8.onnx", "precision": "int8", "split": "val", "metrics": {"top1": 0.85}, "before": {"top1": 0.88},
    "drop": 3.0,
}  # fmt: skip


def test_a_graph_and_its_reduced_one_are_compared_on_the_same_split() -> None:
    unrelated = model_row(config_hash="d", split="val", metrics={"top1": 0.5})
    score, values = scores_of([model_row(), model_row(**REDUCED), unrelated])
    assert (score.name, values) == ("top1", [0.88, 0.85, 0.5])


def test_what_nobody_has_measured_has_no_score() -> None:
    rows = [model_row(), model_row(precision="bf16", drop=None)]
    assert scores_of(rows)[1] == [0.9, None]
    for row in (rows[1], model_row(metrics={}), model_row(metrics={"top1": None})):
        with pytest.raises(NoChart, match=r"card of x\.onnx tells no top1"):
            scores_of([row])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "detection"}, "classification and detection have no metric in common"),
        ({"data": "photos"}, "measured on flowers test and photos test"),
        ({"split": "val", "config_hash": "d"}, "measured on flowers test and flowers val"),
    ],
)
def test_models_that_cannot_be_compared(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(NoChart, match=words):
        scores_of([model_row(), model_row(**changes)])


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12), st.booleans())
def test_nothing_beats_the_front_and_the_front_beats_the_rest(points: list[tuple[int, int]], lowest: bool) -> None:
    def beaten(one: tuple[int, int]) -> bool:
        better = ((s <= one[1]) if lowest else (s >= one[1]) for _, s in points)
        return any(p[0] <= one[0] and good and p != one for p, good in zip(points, better, strict=True))

    front = [points[number] for number in front_of(points, lowest)]
    assert set(front) == {one for one in points if not beaten(one)}
    assert front == sorted(front)


def test_texts_of_a_card_are_no_formulas(tmp_path: Path) -> None:
    broken = r"$\frac$"
    draw_scores([model_row(data=broken, name=broken, precision=broken)], Choice(0, ""), None, tmp_path / "chart.png")
    assert Image.open(tmp_path / "chart.png").size[0] > 400


def test_the_chosen_row_is_marked(tmp_path: Path) -> None:
    rows = [model_row(p50_us=50.0 * size * (1 + threads), batch_size=size, threads=threads, **graph)
            for size in (1, 2, 4, 8) for threads in (1, 2) for graph in ({}, REDUCED)]  # fmt: skip
    images = []
    for chosen in (None, 2):
        target = tmp_path / f"{chosen}.png"
        draw_scores(rows, Choice(chosen, ""), 1000.0, target)
        with Image.open(target) as image:
            images.append(np.asarray(image.convert("RGB")))
    assert images[0].shape[1] > 600 and images[0].std() > 5
    assert images[0].shape != images[1].shape or (images[0] != images[1]).any()
