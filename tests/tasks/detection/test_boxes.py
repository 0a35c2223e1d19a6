"""Objects that several tiles see are answered once, and lie where they are in the image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nanocv_cli.engine.tiles import Tile, TileAnswer, spans
from nanocv_cli.tasks.detection.boxes import Floats, intersection, join_tiles, overlaps

THRESHOLDS = np.array([0.3, 0.5])
Object = tuple[float, float, float, float, int, float]  # x0, y0, x1, y1 in pixels, label, score


def tiled(objects: list[Object], size: tuple[int, int], side: int) -> list[TileAnswer]:
    """What a perfect detector answers for each tile: every object that it sees a part of."""
    answers = []
    for down in spans(size[1], side):
        for across in spans(size[0], side):
            seen = []
            for x0, y0, x1, y1, label, score in objects:
                left, right = max(x0, across.start), min(x1, across.stop)
                top, bottom = max(y0, down.start), min(y1, down.stop)
                if right > left and bottom > top:
                    width, height = across.stop - across.start, down.stop - down.start
                    box = [
                        (left - across.start) / width,
                        (top - down.start) / height,
                        (right - across.start) / width,
                        (bottom - down.start) / height,
                    ]
                    seen.append((box, score, label))
            outputs = {
                "boxes": np.array([[box for box, _, _ in seen]], np.float32).reshape(1, -1, 4),
                "scores": np.array([[score for _, score, _ in seen]], np.float32),
                "labels": np.array([[label for _, _, label in seen]], np.int64),
            }
            answers.append(TileAnswer(Tile(down, across), outputs))
    return answers


def joined(objects: list[Object], size: tuple[int, int], side: int) -> dict[str, NDArray[np.generic]]:
    return join_tiles(iter(tiled(objects, size, side)), size, THRESHOLDS)


@given(
    left=st.integers(0, 260),
    top=st.integers(0, 160),
    width=st.integers(4, 24),
    height=st.integers(4, 24),
    label=st.integers(0, 1),
)
def test_an_object_is_found_once_wherever_tiles_cut_it(
    left: int, top: int, width: int, height: int, label: int
) -> None:
    found = joined([(left, top, left + width, top + height, label, 0.9)], (300, 200), 100)
    assert found["labels"].tolist() == [[label]]
    expected = [left / 300, top / 200, (left + width) / 300, (top + height) / 200]
    np.testing.assert_allclose(found["boxes"][0, 0].astype(float), expected, atol=1e-5)


def test_neighbours_and_other_classes_on_the_same_place_stay() -> None:
    objects: list[Object] = [(70, 20, 95, 60, 0, 0.9), (96, 20, 120, 60, 0, 0.8), (70, 20, 95, 60, 1, 0.7)]
    found = joined(objects, (200, 100), 100)
    assert sorted(zip(found["labels"][0].tolist(), found["scores"][0].round(3).tolist(), strict=True)) == [
        (0, 0.8),
        (0, 0.9),
        (1, 0.7),
    ]


def test_what_no_class_shows_is_left_out_and_nothing_is_nothing() -> None:
    found = joined([(10, 10, 40, 40, 1, 0.4), (50, 50, 60, 60, 0, 0.2)], (100, 100), 100)
    assert found["boxes"].shape == (1, 0, 4)
    assert found["scores"].shape == found["labels"].shape == (1, 0)


def test_overlaps_by_hand() -> None:
    box: Floats = np.array([0.0, 0.0, 2.0, 2.0])
    others = np.array([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    assert intersection(box, others).tolist() == [1.0, 4.0, 0.0]
    assert overlaps(box, others).tolist() == pytest.approx([1 / 7, 1.0, 0.0])
