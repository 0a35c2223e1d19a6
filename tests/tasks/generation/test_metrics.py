"""Generation's figures against sums by hand and against plain loops."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nanocv_cli.tasks.generation.distances import frechet, neighbourhoods
from nanocv_cli.tasks.generation.features import features
from nanocv_cli.tasks.generation.metrics import GenerationEvaluator, Images

CLASSES = ("dark", "light")


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def test_frechet_distance_by_hand() -> None:
    # In one dimension: (difference of means)^2 + (difference of deviations)^2.
    assert frechet(column(0, 2, 4), column(3, 3, 3)) == pytest.approx(1 + 4)
    rows = np.random.default_rng(0).normal(size=(50, 4)) @ np.random.default_rng(1).normal(size=(4, 4))
    assert frechet(rows, rows) == pytest.approx(0.0, abs=1e-9)
    # Twice as wide about its mean, then moved by 3: tr(C + 4C - 2 * 2C) = tr(C).
    wider = 2 * (rows - rows.mean(0)) + rows.mean(0) + np.array([3.0, 0.0, 0.0, 0.0])
    assert frechet(rows, wider) == pytest.approx(9 + np.trace(np.cov(rows, rowvar=False)))
    # More dimensions than rows: the covariances are singular.
    assert frechet(np.eye(3, 10), np.eye(3, 10) + 1.0) == pytest.approx(10.0)


def test_neighbourhoods_by_hand() -> None:
    # Each real neighbourhood reaches 1; the first sample lies in those of 0 and 1, the second in none.
    found = neighbourhoods(column(0, 1, 2, 3), column(0.5, 10), k=1)
    assert found == {"precision": 0.5, "recall": 1.0, "density": 1.0, "coverage": 0.5}


def test_the_same_set_twice_is_perfect_and_a_far_one_is_not() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 3))
    assert {name: neighbourhoods(rows, rows)[name] for name in ("precision", "recall", "coverage")} == {
        "precision": 1.0,
        "recall": 1.0,
        "coverage": 1.0,
    }
    assert neighbourhoods(rows, rows + 100) == {"precision": 0.0, "recall": 0.0, "density": 0.0, "coverage": 0.0}


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 100_000), k=st.integers(1, 4))
def test_neighbourhoods_are_those_of_plain_loops(seed: int, k: int) -> None:
    random = np.random.default_rng(seed)
    real, made = random.normal(size=(9, 2)), random.normal(size=(7, 2))

    def reaches(rows: np.ndarray) -> list[float]:
        return [sorted(float(np.linalg.norm(row - other)) for other in rows)[k] for row in rows]

    def inside(centre: np.ndarray, reach: float, row: np.ndarray) -> bool:
        return float(np.linalg.norm(centre - row)) <= reach

    around_real = [[inside(a, reach, b) for b in made] for a, reach in zip(real, reaches(real), strict=True)]
    around_made = [[inside(b, reach, a) for b, reach in zip(made, reaches(made), strict=True)] for a in real]
    found = neighbourhoods(real, made, k)
    assert found["precision"] == pytest.approx(np.mean([any(row[b] for row in around_real) for b in range(7)]))
    assert found["recall"] == pytest.approx(np.mean([any(row) for row in around_made]))
    assert found["density"] == pytest.approx(sum(map(sum, around_real)) / (k * 7))
    assert found["coverage"] == pytest.approx(np.mean([any(row) for row in around_real]))


def test_features_are_the_documented_ones() -> None:
    """Figures can be compared over the years only while these stay."""
    ramp = 4 * np.arange(32, dtype=np.uint8)[None, :, None, None] * np.ones((1, 1, 32, 3), np.uint8)
    found = features(ramp)
    assert found.shape == (1, 448)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found[0, [3, 100, 400]], SOME_OF_A_RAMP, rtol=1e-4)
    np.testing.assert_allclose(features(np.concatenate([ramp, ramp * 2]))[0], found[0], atol=1e-5)
    # Area means: an enlarged image has the features of the small one.
    np.testing.assert_allclose(features(ramp.repeat(2, 1).repeat(2, 2)), found, atol=1e-5)


SOME_OF_A_RAMP = (0.0406098, 0.425763, 0.102797)


def images(levels: list[int]) -> Images:
    noise = np.random.default_rng(0).integers(0, 20, (len(levels), 8, 8, 3))
    return (noise + np.array(levels)[:, None, None, None]).astype(np.uint8)


def by_brightness(images: Images) -> np.ndarray:
    return (images.mean((1, 2, 3)) > 100).astype(np.int64)


def test_class_accuracy_and_copies_by_hand(tmp_path: Path) -> None:
    real, labels = images([40, 160, 40, 160]), np.array([0, 1, 0, 1])
    made = images([200, 200, 45, 165])  # the first is of the wrong class
    learnt = np.concatenate([made[2:3], images([90, 120])])  # the third sample is a training image
    evaluator = GenerationEvaluator(CLASSES, by_brightness, learnt)
    for part in (slice(0, 3), slice(3, 4)):
        evaluator.update({"image": made[part]}, labels[part], real[part])
    metrics = evaluator.compute()
    assert metrics["class_accuracy"] == 0.75
    assert metrics["classifier_accuracy"] == 1.0
    assert metrics["copies"] == 0.25
    assert metrics["per_class"] == {"dark": {"class_accuracy": 0.5}, "light": {"class_accuracy": 1.0}}
    assert metrics["frechet"] > 0
    drawn = evaluator.draw(tmp_path, real)
    assert [path.name for path in drawn] == ["samples.png", "nearest.png"]
    for path in drawn:
        with Image.open(path) as opened:
            assert np.asarray(opened.convert("L")).std() > 5


def test_without_classifier_and_training_images_the_rest_is_measured(tmp_path: Path) -> None:
    evaluator = GenerationEvaluator(CLASSES)
    evaluator.update({"image": images([10, 200])}, np.array([0, 1]), images([20, 220]))
    metrics = evaluator.compute()
    assert (metrics["class_accuracy"], metrics["copies"], metrics["per_class"]) == (None, None, {})
    assert metrics["coverage"] is not None
    assert [path.name for path in evaluator.draw(tmp_path, images([0]))] == ["samples.png"]
    evaluator.snapshot(tmp_path, 7)
    assert (tmp_path / "samples" / "epoch-0007.png").stat().st_size > 0
