"""COCO's segmentation codes: the pixels that cocoapi draws, and nothing drawn from what is no code."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanocv_cli.data.formats.coco_masks import runs_of


def drawn(code: Any, width: int, height: int) -> np.ndarray:
    mask = np.zeros(width * height, np.uint8)
    for runs in runs_of(code, width, height):
        mask |= np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8)
    return mask.reshape(width, height).T


@settings(max_examples=80, deadline=None)
@given(width=st.integers(1, 40), height=st.integers(1, 40), seed=st.integers(0, 10**6), share=st.floats(0, 1))
def test_run_lengths_are_those_of_cocoapi(width: int, height: int, seed: int, share: float) -> None:
    from faster_coco_eval import mask as coco_mask

    mask = (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)
    code = coco_mask.encode(np.asfortranarray(mask))
    text = code["counts"] if isinstance(code["counts"], str) else code["counts"].decode()
    assert np.array_equal(drawn({"size": [height, width], "counts": text}, width, height), mask)
    runs = runs_of({"size": [height, width], "counts": text}, width, height)[0].tolist()
    assert np.array_equal(drawn({"size": [height, width], "counts": runs}, width, height), mask)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(4, 60),
    height=st.integers(4, 60),
    polygons=st.lists(
        st.lists(st.floats(-3, 62), min_size=6, max_size=14).filter(lambda points: len(points) % 2 == 0),
        min_size=1,
        max_size=3,
    ),
)
def test_polygons_are_those_of_cocoapi(width: int, height: int, polygons: list[list[float]]) -> None:
    from faster_coco_eval import mask as coco_mask

    polygons = [
        [min(value, 2.0 * side) for value, side in zip(points, [width, height] * 7, strict=False)]
        for points in polygons
    ]
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)))
    try:
        mask = drawn(polygons, width, height)
    except ValueError as error:
        assert "longer than" in str(error)
        return
    assert np.array_equal(mask, expected)


def test_a_polygon_without_area_covers_nothing() -> None:
    assert runs_of([[1, 2, 3, 4], []], 10, 10) == []


@pytest.mark.parametrize(
    "code",
    [
        None, 3, "text", {}, {"size": [10, 10]}, {"size": [10, 10], "counts": 3}, {"size": [10, 10], "counts": None},
        {"size": [10, 10], "counts": ""}, {"size": [10, 10], "counts": "é"}, {"size": [10, 10], "counts": "\x00"},
        {"size": [10, 10], "counts": "o" * 20}, {"size": [10, 10], "counts": "oooooooooooo0"},
        {"size": [10, 10], "counts": [100, 1]}, {"size": [10, 10], "counts": [-1, 101]},
        {"size": [10, 10], "counts": [10**400]}, {"size": [10, 10], "counts": [1.0, 99]},
        {"size": [10, 10], "counts": [True, 99]}, {"size": [10, 10], "counts": []},
        {"size": [10, 11], "counts": [110]}, {"size": "x", "counts": [100]}, {"size": [10**9] * 2, "counts": [10**18]},
        [3], [[1, 2, 3, 4, 5]], [["a"] * 6], [[None] * 6], [[True] * 6], [[float("nan")] * 6], [[float("inf")] * 6],
        [[10**400] * 6], [[0, 0, 1e9, 0, 0, 1e9]], [[0, 0, 20, 20] * 100_000], [[[[[]]]]], [{"a": 1}],
    ],
)  # fmt: skip
def test_what_is_no_code_is_refused(code: Any) -> None:
    with pytest.raises(ValueError) as refused:
        runs_of(code, 10, 10)
    assert "\n" not in str(refused.value)


@given(st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=60))
def test_any_text_is_a_mask_of_the_size_or_refused(text: str) -> None:
    try:
        (runs,) = runs_of({"size": [8, 9], "counts": text}, 9, 8)
    except ValueError:
        return
    assert (runs >= 0).all() and runs.sum() == 72
