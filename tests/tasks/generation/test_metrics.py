"""Generation's figures by hand: which are measured, and when."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nanocv_cli.tasks.generation import metrics
from nanocv_cli.tasks.generation.distances import frechet
from nanocv_cli.tasks.generation.metrics import GenerationEvaluator, Images
from tests.conftest import Command, TrainedRun

CLASSES = ("dark", "light")


def images(levels: list[int]) -> Images:
    noise = np.random.default_rng(0).integers(0, 20, (len(levels), 8, 8, 3))
    return (noise + np.array(levels)[:, None, None, None]).astype(np.uint8)


def by_brightness(images: Images) -> np.ndarray:
    return (images.mean((1, 2, 3)) > 100).astype(np.int64)


def test_class_accuracy_and_copies_by_hand(tmp_path: Path) -> None:
    real, labels = images([40, 160, 40, 160]), np.array([0, 1, 0, 1])
    made = images([200, 200, 45, 165])  # the first is of the wrong class
    trained_on = np.concatenate([made[2:3], images([90, 120])])  # the third sample is a training image
    evaluator = GenerationEvaluator(CLASSES, by_brightness, trained_on)
    for part in (slice(0, 3), slice(3, 4)):
        evaluator.update({"image": made[part]}, labels[part], real[part])
    measured = evaluator.compute()
    assert measured["class_accuracy"] == 0.75
    assert measured["classifier_accuracy"] == 1.0
    assert measured["copies"] == 0.25
    assert measured["per_class"] == {"dark": {"class_accuracy": 0.5}, "light": {"class_accuracy": 1.0}}
    assert measured["frechet"] > 0
    drawn = evaluator.draw(tmp_path, real)
    assert [path.name for path in drawn] == ["samples.png", "nearest.png"]
    for path in drawn:
        with Image.open(path) as opened:
            assert np.asarray(opened.convert("L")).std() > 5


def test_without_classifier_and_training_images_the_rest_is_measured(tmp_path: Path) -> None:
    evaluator = GenerationEvaluator(CLASSES)
    evaluator.update({"image": images([10, 200])}, np.array([0, 1]), images([20, 220]))
    measured = evaluator.compute()
    assert (measured["class_accuracy"], measured["copies"], measured["per_class"]) == (None, None, {})
    assert measured["coverage"] is not None
    assert [path.name for path in evaluator.draw(tmp_path, images([0]))] == ["samples.png"]
    evaluator.snapshot(tmp_path, 7)
    assert (tmp_path / "samples" / "epoch-0007.png").stat().st_size > 0


def test_fid_is_the_distance_in_these_features_and_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "inception_features", lambda images: images.reshape(len(images), -1).astype(float))
    real, made = np.random.default_rng(0).integers(0, 256, (2, 9, 4, 4, 3), np.uint8)
    for online in (True, False):
        evaluator = GenerationEvaluator(("a",), online=online)
        evaluator.update({"image": made}, np.zeros(9, np.int64), real)
        found = evaluator.compute()
        assert ("fid" in found) is online
        if online:
            assert found["fid"] == pytest.approx(frechet(real.reshape(9, -1) / 1.0, made.reshape(9, -1) / 1.0))


@pytest.mark.slow(3)
def test_online_is_refused_where_nothing_needs_a_download(nanocv: Command, trained: TrainedRun) -> None:
    refused = nanocv("eval", "--model", trained.folder, "--data", trained.data, "--online")
    assert refused.code == 2
    assert "no figure of classification needs a download" in refused.err


def test_resampled_figures_weigh_samples_and_what_is_shown_is_made_or_mistaken() -> None:
    real, labels = images([40, 160, 40, 160]), np.array([0, 1, 0, 1])
    made = images([200, 200, 45, 165])  # the first is of the wrong class
    evaluator = GenerationEvaluator(CLASSES, by_brightness, made[2:3])
    evaluator.update({"image": made}, labels, real)
    found = evaluator.resampled(np.array([[1, 1, 1, 1], [3, 1, 0, 0]]))
    assert found["class_accuracy"].tolist() == [0.75, 0.25]
    assert found["copies"].tolist() == [0.25, 0.0]
    measured = evaluator.compute()
    assert {name: values[0] for name, values in found.items()} == {name: measured[name] for name in found}
    assert not {"frechet", "fid"} & set(found)
    samples, pairs, mistakes = evaluator.exhibits(real).galleries
    assert [image.lines for image in samples.images] == [("dark",), ("dark",), ("light",), ("light",)]
    assert pairs.parts == ("sample", "training image") and not pairs.are_mistakes
    assert mistakes.are_mistakes
    assert [image.lines for image in mistakes.images] == [("asked for dark", "seen as light")]
