"""Segmentation's figures against sums by hand and against plain loops."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nanocv_cli.data.labels.masks import IGNORED
from nanocv_cli.tasks.segmentation.metrics import SHOWN, SegmentationEvaluator

CLASSES = ("a", "b", "c")
NO_IMAGES = np.zeros((0, 4, 4, 3), np.uint8)


def evaluated(answer: np.ndarray, truth: np.ndarray) -> SegmentationEvaluator:
    evaluator = SegmentationEvaluator(CLASSES)
    evaluator.update({"mask": answer, "confidence": np.ones(answer.shape)}, truth, NO_IMAGES)
    return evaluator


def test_by_hand() -> None:
    truth = np.array([[[0, 0, 1, IGNORED]]], np.uint8)
    answer = np.array([[[0, 1, 1, 2]]], np.uint8)
    metrics = evaluated(answer, truth).compute()
    assert metrics["per_class"]["a"]["iou"] == pytest.approx(1 / 2)
    assert metrics["per_class"]["b"]["iou"] == pytest.approx(1 / 2)
    assert metrics["per_class"]["c"]["iou"] is None  # answered on an ignored pixel alone
    assert metrics["miou"] == pytest.approx(1 / 2)
    assert metrics["pixel_accuracy"] == pytest.approx(2 / 3)
    assert metrics["dice"] == pytest.approx(2 / 3)


def test_a_class_that_is_only_answered_costs() -> None:
    truth = np.zeros((1, 1, 4), np.uint8)
    answer = np.array([[[0, 0, 0, 2]]], np.uint8)
    metrics = evaluated(answer, truth).compute()
    assert metrics["per_class"]["c"]["iou"] == 0.0
    assert metrics["miou"] == pytest.approx((3 / 4 + 0) / 2)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_overlap_is_that_of_plain_loops(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.choice(np.array([0, 1, 2, IGNORED], np.uint8), (2, 5, 6))
    answer = random.integers(0, 3, (2, 5, 6)).astype(np.uint8)
    together = evaluated(answer, truth)
    apart = SegmentationEvaluator(CLASSES)
    for row in range(2):
        apart.update({"mask": answer[row : row + 1]}, truth[row : row + 1], NO_IMAGES)
    metrics = together.compute()
    assert metrics == apart.compute()
    counted = truth != IGNORED
    for label, name in enumerate(CLASSES):
        both = ((answer == label) & (truth == label) & counted).sum()
        either = (((answer == label) | (truth == label)) & counted).sum()
        found = metrics["per_class"][name]["iou"]
        assert found == (pytest.approx(both / either) if either else None)


def test_boundaries_forgive_a_pixel_and_no_more() -> None:
    truth = np.zeros((1, 60, 60), np.uint8)
    truth[:, 20:40, 20:40] = 1
    figures = []
    for shift in (0, 1, 4):
        answer = np.zeros_like(truth)
        answer[:, 20 + shift : 40 + shift, 20:40] = 1
        figures.append(evaluated(answer, truth).compute()["per_class"]["b"]["boundary_f1"])
    assert figures[0] == figures[1] == 1.0
    assert figures[2] < 0.7


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_boundaries_are_those_of_plain_loops(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.choice(np.array([0, 1, 2, IGNORED], np.uint8), (2, 6, 5), p=(0.6, 0.2, 0.1, 0.1))
    answer = np.where(random.random(truth.shape) < 0.7, truth % 3, random.integers(0, 3, truth.shape)).astype(np.uint8)

    def edge(labels: np.ndarray, image: int, y: int, x: int) -> bool:
        around = labels[image, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        return bool((around != labels[image, y, x]).any()) and truth[image, y, x] != IGNORED

    def share(own: np.ndarray, other: np.ndarray, label: int) -> float:
        """Of the class's boundary pixels in one mask, those with such a pixel of the other one beside them."""
        marks = [
            {place for place in np.ndindex(truth.shape) if labels[place] == label and edge(labels, *place)}
            for labels in (own, other)
        ]
        near = [p for p in marks[0] if any(p[0] == q[0] and abs(p[1] - q[1]) < 2 > abs(p[2] - q[2]) for q in marks[1])]
        return len(near) / max(1, len(marks[0]))

    metrics = evaluated(answer, truth).compute()
    for label, name in enumerate(CLASSES):
        precision, recall = share(answer, truth, label), share(truth, answer, label)
        expected = 2 * precision * recall / max(precision + recall, 1e-12) if (truth == label).any() else None
        assert metrics["per_class"][name]["boundary_f1"] == pytest.approx(expected)


def test_the_worst_images_are_drawn(tmp_path: Path) -> None:
    evaluator = SegmentationEvaluator(CLASSES)
    truth = np.zeros((9, 16, 16), np.uint8)
    answer = truth.copy()
    for number in range(9):
        answer[number, : 9 - number] = 1  # the first is worst
    truth[8] = IGNORED
    images = np.full((9, 16, 16, 3), 120, np.uint8)
    for start in (0, 4, 8):
        evaluator.update({"mask": answer[start : start + 4]}, truth[start : start + 4], images[start : start + 4])
    assert [entry.number for entry in evaluator.worst] == list(range(SHOWN))
    for path in evaluator.draw(tmp_path, images):
        with Image.open(path) as drawn:
            assert np.asarray(drawn.convert("L")).std() > 5


def test_a_split_without_labels_has_no_figures(tmp_path: Path) -> None:
    evaluator = evaluated(np.zeros((1, 4, 4), np.uint8), np.full((1, 4, 4), IGNORED, np.uint8))
    metrics = evaluator.compute()
    assert metrics["miou"] == 0.0
    assert metrics["dice"] is None
    assert [path.name for path in evaluator.draw(tmp_path, np.zeros((1, 4, 4, 3), np.uint8))] == ["confusion.png"]


def test_resampled_figures_are_those_of_the_split_that_is_drawn() -> None:
    random = np.random.default_rng(4)
    truth = random.choice(np.array([0, 1, 2, IGNORED], np.uint8), (9, 8, 8))
    answer = np.where(random.random((9, 8, 8)) < 0.7, truth % 3, random.integers(0, 3, (9, 8, 8))).astype(np.uint8)
    drawn = random.multinomial(9, np.full(9, 1 / 9))
    found = evaluated(answer, truth).resampled(np.stack([np.ones(9, np.int64), drawn]))
    assert set(found) == {"miou", "pixel_accuracy", "dice", "boundary_f1"}
    for row, counts in enumerate((np.ones(9, np.int64), drawn)):
        places = np.repeat(np.arange(9), counts)
        own = evaluated(answer[places], truth[places]).compute()
        assert {name: values[row] for name, values in found.items()} == pytest.approx(
            {name: own[name] for name in found}
        )


def test_the_worst_images_are_shown_beside_labels_and_answers() -> None:
    truth = np.zeros((3, 8, 8), np.uint8)
    answer = truth.copy()
    answer[1, :4], answer[2, :6] = 1, 2
    shown = evaluated(answer, truth).exhibits(np.full((3, 8, 8, 3), 90, np.uint8))
    (gallery,) = shown.galleries
    assert [image.lines for image in gallery.images] == [
        ("25.0% of the labelled pixels are right",),
        ("50.0% of the labelled pixels are right",),
    ]
    assert gallery.images[0].image.shape == (8, 3 * 8 + 2, 3)
    assert [name for name, _ in gallery.colours] == ["a", "b", "c"]
    assert shown.matrices[0].counts.sum() == truth.size
