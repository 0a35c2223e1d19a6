"""The classification room: metrics by hand, losses, the export model."""

import numpy as np
import pytest
import torch
from PIL import Image

from nanocv_cli.config.loader import resolve
from nanocv_cli.tasks.classification.config import Recipe
from nanocv_cli.tasks.classification.metrics import ClassificationEvaluator
from nanocv_cli.tasks.classification.task import Classification, MixedLabels
from nanocv_cli.tasks.table import task_for

NO_IMAGES = np.zeros((1, 8, 8, 3), np.uint8)


def filled(classes: tuple[str, ...], probabilities: list[list[float]], labels: list[int]) -> ClassificationEvaluator:
    evaluator = ClassificationEvaluator(classes)
    for row, label in zip(probabilities, labels, strict=True):  # one by one: batching must not matter
        evaluator.update({"probabilities": np.array([row], np.float32)}, np.array([label]), NO_IMAGES)
    return evaluator


def test_metrics_of_a_case_done_by_hand() -> None:
    evaluator = filled(
        ("a", "b", "c"),
        [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]],
        [0, 1, 1, 0],
    )
    metrics = evaluator.compute()
    assert metrics["top1"] == pytest.approx(0.5)
    assert metrics["loss"] == pytest.approx(-np.log([0.8, 0.3, 0.7, 0.1]).mean(), rel=1e-5)
    assert metrics["per_class"]["a"] == {"precision": pytest.approx(0.5), "recall": pytest.approx(0.5), "n": 2}
    assert metrics["per_class"]["c"] == {"precision": 0.0, "recall": 0.0, "n": 0}
    assert metrics["macro_recall"] == pytest.approx(0.5)
    # Bins of 1/15: 0.6 and 0.7 stand alone, 0.8 holds one right and one wrong answer.
    assert metrics["calibration_error"] == pytest.approx((0.6 + 0.3 + 2 * 0.3) / 4, abs=1e-4)
    assert evaluator.confusion().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert "top5" not in metrics


def test_top5_where_there_are_more_classes() -> None:
    row = [0.3, 0.2, 0.15, 0.13, 0.12, 0.1]
    assert filled(tuple("abcdef"), [row, row], [4, 5]).compute()["top5"] == pytest.approx(0.5)


def test_the_confusion_matrix_is_drawn(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (path,) = filled(("a", "b"), [[0.9, 0.1], [0.2, 0.8]], [0, 1]).draw(tmp_path, np.zeros((2, 8, 8, 3), np.uint8))
    with Image.open(path) as image:
        assert image.format == "PNG"


def test_resampled_figures_are_those_of_the_split_that_is_drawn() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(7), 40).astype(np.float32)
    labels = random.integers(0, 5, 40)  # of two classes there is no image
    evaluator = filled(tuple("abcdefg"), probabilities.tolist(), labels.tolist())
    counts = np.stack([np.ones(40, np.int64), random.multinomial(40, np.full(40, 1 / 40))])
    found = evaluator.resampled(counts)
    for row, count in enumerate(counts):
        places = np.repeat(np.arange(40), count)
        drawn = filled(tuple("abcdefg"), probabilities[places].tolist(), labels[places].tolist()).compute()
        assert {name: values[row] for name, values in found.items()} == pytest.approx(
            {name: drawn[name] for name in found}, abs=1e-5
        )
    assert set(found) == {"top1", "top5", "loss", "calibration_error", "macro_recall"}


def test_the_surest_mistakes_are_shown_first() -> None:
    evaluator = filled(("a", "b"), [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.8, 0.2]], [0, 1, 0, 1])
    images = np.arange(4, dtype=np.uint8).repeat(8 * 8 * 3).reshape(4, 8, 8, 3)
    shown = evaluator.exhibits(images)
    (gallery,) = shown.galleries
    assert gallery.are_mistakes and [image.image[0, 0, 0] for image in gallery.images] == [2, 3, 1]
    assert gallery.images[0].lines == ("is a (20.0%)", "answer b (80.0%)")
    assert shown.matrices[0].counts.tolist() == [[1, 1], [2, 0]]


def test_mixed_labels_share_the_loss() -> None:
    task, train = Classification(), Recipe(name="x", label_smoothing=0.0)
    logits = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    own, other = torch.tensor([0, 1]), torch.tensor([1, 0])
    whole = task.loss(logits, MixedLabels(own, other, 1.0), train)
    swapped = task.loss(logits, MixedLabels(other, own, 1.0), train)
    mixed = task.loss(logits, MixedLabels(own, other, 0.3), train)
    assert mixed.item() == pytest.approx(0.3 * whole.item() + 0.7 * swapped.item())
    assert task.train_metric(logits, MixedLabels(own, other, 1.0)).item() == 2
    assert task.train_metric(logits, MixedLabels(own, other, 0.3)).item() == pytest.approx(0.6)


def test_the_deployable_module_is_normalisation_network_softmax() -> None:
    model = resolve().config.model
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    images = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    (found,) = task_for("classification").export_model(network, model)(images)
    normalised = (images.float() / 255 - torch.tensor(model.mean)) / torch.tensor(model.std)
    torch.testing.assert_close(found, normalised.mean((1, 2)).softmax(1), rtol=1e-4, atol=1e-5)
