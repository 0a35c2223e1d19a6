"""Average precision against pycocotools, the reference implementation."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from nanocv_cli.tasks.detection.metrics import DetectionEvaluator, evaluate_image
from nanocv_cli.tasks.detection.task import unmatched_distance

SIDE = 320
NO_IMAGES = np.zeros((0, SIDE, SIDE, 3), np.uint8)
NAMES = ("map", "map50", "map75", "map_small", "map_medium", "map_large")


def random_case(
    seed: int, images: int, objects: int, detections: int, classes: int
) -> tuple[dict[str, NDArray[Any]], NDArray[np.float32]]:
    """Objects and detections around some of them; scores are tenths, so that many are equal."""
    random = np.random.default_rng(seed)
    targets = np.full((images, max(1, objects), 6), -1.0, np.float32)
    boxes = np.zeros((images, detections, 4), np.float32)
    scores = np.zeros((images, detections), np.float32)
    labels = np.zeros((images, detections), np.int64)
    for image in range(images):
        count = int(random.integers(0, objects + 1))
        for place in range(count):
            corner = random.random(2) * 0.7
            targets[image, place] = [*corner, *(corner + 0.02 + 0.28 * random.random(2)), random.integers(classes),
                                       random.random() < 0.15]  # fmt: skip
        for place in range(detections):
            near = count and random.random() < 0.7
            row = targets[image, random.integers(count)] if near else np.array([0.2, 0.2, 0.5, 0.6, 0.0, 0.0])
            boxes[image, place] = row[:4] + random.normal(0, 0.02, 4)
            labels[image, place] = row[4] if near else random.integers(classes)
            scores[image, place] = np.round(random.random(), 1)
    return {"boxes": boxes, "scores": scores, "labels": labels}, targets


def filled(outputs: dict[str, NDArray[Any]], targets: NDArray[np.float32], classes: int) -> DetectionEvaluator:
    evaluator = DetectionEvaluator(tuple("abcdef"[:classes]), SIDE)
    for start in range(0, len(targets), 2):
        part = slice(start, start + 2)
        evaluator.update({name: values[part] for name, values in outputs.items()}, targets[part], NO_IMAGES)
    return evaluator


def by_pycocotools(outputs: dict[str, NDArray[Any]], targets: NDArray[np.float32], classes: int) -> list[float]:
    """COCO's six average precisions and the recall at a hundred detections; -1 where nothing decides."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def xywh(corners: Any) -> list[float]:
        x0, y0, x1, y1 = (float(value) * float(SIDE) for value in corners)
        return [x0, y0, x1 - x0, y1 - y0]

    annotations: list[dict[str, Any]] = []
    results = []
    for image, rows in enumerate(targets, start=1):
        for row in rows[rows[:, 4] >= 0]:
            box = xywh(row[:4])
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": int(row[4]) + 1,
                                "bbox": box, "area": box[2] * box[3], "iscrowd": int(row[5])})  # fmt: skip
        for box, score, label in zip(
            outputs["boxes"][image - 1], outputs["scores"][image - 1], outputs["labels"][image - 1], strict=True
        ):
            if score > 0:
                results.append({"image_id": image, "category_id": int(label) + 1, "bbox": xywh(box),
                                "score": float(score)})  # fmt: skip
    truth = COCO()
    images = [{"id": n, "width": SIDE, "height": SIDE} for n in range(1, len(targets) + 1)]
    truth.dataset = {"images": images, "categories": [{"id": n} for n in range(1, classes + 1)],
                     "annotations": annotations}  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in (*evaluation.stats[:6], evaluation.stats[8])]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 100_000), images=st.integers(1, 6), objects=st.integers(0, 9),
    detections=st.sampled_from([1, 10, 130]), classes=st.integers(1, 4),
)  # fmt: skip
def test_every_figure_is_pycocotools(seed: int, images: int, objects: int, detections: int, classes: int) -> None:
    outputs, targets = random_case(seed, images, objects, detections, classes)
    outputs["scores"][0, 0] = max(0.1, outputs["scores"][0, 0])  # pycocotools takes no empty list of results
    expected = by_pycocotools(outputs, targets, classes)
    metrics = filled(outputs, targets, classes).compute()
    for name, value in zip((*NAMES, "recall"), expected, strict=True):
        ours = metrics[name]
        if value < 0:
            assert ours in (None, 0.0)
        else:
            assert ours == pytest.approx(value, abs=1e-6)


def test_perfect_answers_score_one_and_none_score_zero() -> None:
    _, targets = random_case(1, 4, 5, 1, 3)
    targets[..., 5] = np.where(targets[..., 4] >= 0, 0.0, -1.0)
    is_object = targets[..., 4] >= 0
    perfect = {"boxes": targets[..., :4].clip(0), "scores": is_object * 0.9, "labels": targets[..., 4].astype(np.int64)}
    metrics = filled(perfect, targets, 3).compute()
    assert metrics["map"] == pytest.approx(1.0)
    assert all(row["f1"] == pytest.approx(1.0) for row in metrics["per_class"].values() if row["n"])
    nothing = {**perfect, "scores": is_object * 0.0}
    metrics = filled(nothing, targets, 3).compute()
    assert metrics["map"] == 0.0
    assert metrics["recall"] == 0.0


def test_a_split_without_objects_has_figures_all_the_same() -> None:
    outputs, targets = random_case(2, 3, 0, 4, 2)
    metrics = filled(outputs, targets, 2).compute()
    assert metrics["map"] == 0.0
    assert metrics["map50"] is None
    assert [row["n"] for row in metrics["per_class"].values()] == [0, 0]


def test_the_curves_are_a_image(tmp_path: Path) -> None:
    outputs, targets = random_case(3, 6, 6, 20, 3)
    images = np.full((6, 64, 64, 3), 128, np.uint8)
    paths = filled(outputs, targets, 3).draw(tmp_path, images)
    assert [path.name for path in paths] == ["precision_recall.png", "mistakes.png"]
    for path in paths:
        with Image.open(path) as image:
            assert image.width > 600


def test_mistakes_are_objects_missed_and_answers_on_nothing() -> None:
    rows = np.array([[0.1, 0.1, 0.4, 0.4, 0, 0], [0.5, 0.5, 0.9, 0.9, 1, 0], [0.0, 0.6, 0.3, 0.9, 1, 1], [-1] * 6])
    boxes = np.array([[0.1, 0.1, 0.4, 0.42], [0.1, 0.1, 0.41, 0.4], [0.0, 0.6, 0.3, 0.9], [0.5, 0.5, 0.9, 0.9]])
    found = evaluate_image(0, boxes, np.array([0.9, 0.8, 0.7, 0.2]), np.array([0, 0, 1, 1]), rows)
    # The second answer finds its object taken; the third lies on an ignored one; the fourth is not confident.
    assert found.right.tolist() == [True, False, True]
    assert found.missed[:, 4].tolist() == [1.0]
    assert found.cost == pytest.approx(1.8)
    assert evaluate_image(0, boxes[:1], np.array([0.9]), np.array([0]), rows[:1]).cost == 0.0


def test_the_distance_of_answers_ignores_the_order_of_equals() -> None:
    outputs, _ = random_case(4, 2, 5, 12, 2)
    outputs["scores"] = np.linspace(0.2, 0.9, 24, dtype=np.float32).reshape(2, 12)
    order = np.random.default_rng(0).permutation(12)
    shuffled = {name: values[:, order] for name, values in outputs.items()}
    assert unmatched_distance(outputs, shuffled) == 0.0
    moved = {**outputs, "boxes": outputs["boxes"] + np.float32(0.5)}
    assert unmatched_distance(outputs, moved) > 0.2
    swapped = {name: values.copy() for name, values in outputs.items()}
    swapped["boxes"][0, 0] += np.float32(0.02)  # a rival as good that overlaps it
    assert unmatched_distance(outputs, swapped) < 1e-6
    swapped["scores"][0, 0] = 0.0
    assert unmatched_distance(outputs, swapped) > 0.05
    missing = {**outputs, "scores": np.zeros_like(outputs["scores"])}
    assert unmatched_distance(outputs, missing) == pytest.approx(outputs["scores"].max())
    broken = {**outputs, "boxes": np.full_like(outputs["boxes"], np.nan)}
    assert np.isnan(unmatched_distance(outputs, broken))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 100_000), images=st.integers(1, 6), objects=st.integers(1, 9), classes=st.integers(1, 4))
def test_resampled_figures_are_those_of_the_split_that_is_drawn(
    seed: int, images: int, objects: int, classes: int
) -> None:
    outputs, targets = random_case(seed, images, objects, 30, classes)
    # Two answers of one image with one score would stand in another order than in a split that holds it twice.
    random = np.random.default_rng(seed)
    outputs["scores"] = random.permutation(30 * images).reshape(images, 30) / 1000 + 0.01
    drawn = random.multinomial(images, np.full(images, 1 / images))
    found = filled(outputs, targets, classes).resampled(np.stack([np.ones(images, np.int64), drawn]))
    assert set(found) == {"map", "map50", "map75", "recall"}
    for row, counts in enumerate((np.ones(images, np.int64), drawn)):
        places = np.repeat(np.arange(images), counts)
        own = filled({name: values[places] for name, values in outputs.items()}, targets[places], classes).compute()
        for name, values in found.items():
            if own["map50"] is None:  # no object was drawn
                assert np.isnan(values[row])
            else:
                assert values[row] == pytest.approx(own[name], abs=1e-6)


def test_mistakes_and_curves_are_shown() -> None:
    outputs, targets = random_case(3, 6, 6, 20, 3)
    images = np.full((6, 64, 64, 3), 128, np.uint8)
    shown = filled(outputs, targets, 3).exhibits(images)
    (curves,), (gallery,) = shown.curves, shown.galleries
    assert [curve.name for curve in curves.curves] == ["a", "b", "c"]
    assert all(((curve.up >= 0) & (curve.up <= 1)).all() for curve in curves.curves)
    assert gallery.are_mistakes and {name for name, _ in gallery.colours} == {"found", "wrong", "missed"}
    assert all((image.image != 128).any() and image.image.shape == (480, 480, 3) for image in gallery.images)
    assert (images == 128).all()
