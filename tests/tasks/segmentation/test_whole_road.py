"""A tiny segmenter on the whole road: train, evaluate on both engines, infer, tile, draw, export, serve, analyse."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.graph import Graph
from nanocv_cli.errors import ModelError
from nanocv_cli.tasks.segmentation.postprocessor import UNSEEN, SegmentationPostprocessor
from nanocv_cli.tasks.segmentation.task import Segmentation, dice_loss
from tests.conftest import Command, TrainedRun, training_run
from tests.masked import COLOURS, write_masked_set

TINY = ("--set", "model.input_size=64", "--set", "train.batch_size=8", "--set", "train.precision=fp32")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainedRun]:
    root = tmp_path_factory.mktemp("segmenter")
    data = write_masked_set(root / "shapes", {"train": 48, "val": 16})
    with training_run(root, data, "--model", "nanoseg", *TINY, "--set", "train.epochs=12") as run:
        yield run


def test_it_learns_and_leaves_what_every_run_leaves(segmenter: TrainedRun) -> None:
    metrics = segmenter.summary["metrics"]
    assert metrics["miou"] > 0.6
    assert {"miou", "pixel_accuracy", "dice", "boundary_f1", "per_class"} <= metrics.keys()
    for name in ("model.onnx", "curves.png", "confusion.png", "overlays.png", "summary.json"):
        assert (segmenter.folder / name).stat().st_size > 500


def test_both_engines_measure_the_same(segmenter: TrainedRun, nanocv: Command) -> None:
    figures = [
        nanocv("eval", "--model", segmenter.folder, "--data", segmenter.data, "--engine", engine, "--json").document
        for engine in ("torch", "onnx")
    ]
    assert figures[0]["metrics"]["miou"] == pytest.approx(figures[1]["metrics"]["miou"], abs=1e-3)
    assert figures[0]["n"] == 16
    assert "miou" in nanocv("eval", "--model", segmenter.folder, "--data", segmenter.data).out


def test_a_set_with_its_classes_in_another_order_is_measured_alike(
    segmenter: TrainedRun, nanocv: Command, tmp_path: Path
) -> None:
    own = segmenter.summary["metrics"]["per_class"]
    names = list(own)
    turned = write_masked_set(tmp_path / "turned", {"train": 2, "val": 16})
    for split, count in (("train", 2), ("val", 16)):
        for number in range(count):
            source = segmenter.data / split / "masks" / f"{number:03d}.png"
            mask = np.asarray(Image.open(source))
            swapped = np.where(mask == 1, 2, np.where(mask == 2, 1, mask)).astype(np.uint8)
            Image.fromarray(swapped).save(turned / split / "masks" / f"{number:03d}.png")
            image = segmenter.data / split / "images" / f"{number:03d}.png"
            (turned / split / "images" / image.name).write_bytes(image.read_bytes())
    config = tmp_path / "turned.yaml"
    listed = json.dumps([names[0], names[2], names[1]])
    config.write_text(f"name: turned\npath: {turned}\nformat: masks\nclasses: {listed}\n")
    metrics = nanocv("eval", "--model", segmenter.folder, "--data", config, "--json").document["metrics"]
    assert metrics["miou"] == pytest.approx(segmenter.summary["metrics"]["miou"], abs=1e-6)


def square(folder: Path, width: int, height: int) -> Path:
    """Grey with a red rectangle over its middle half."""
    image = np.full((height, width, 3), 110, np.uint8)
    image[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = COLOURS["red"]
    path = folder / f"{width}x{height}.png"
    Image.fromarray(image).save(path)
    return path


@pytest.mark.parametrize("options", [(), ("--tile", "64", "--batch-size", "3")])
def test_masks_come_in_the_size_of_the_original(
    segmenter: TrainedRun, nanocv: Command, tmp_path: Path, options: tuple[str, ...]
) -> None:
    path = square(tmp_path, 150, 90)
    done = nanocv("infer", path, "--model", segmenter.folder, "--out", tmp_path / "drawn", "--json", *options)
    assert done.code == 0, done.err
    line = json.loads(done.out)
    assert line["task"] == "segmentation"
    assert [region["label"] for region in line["predictions"]][:2] == ["class 0", "class 2"]
    assert line["predictions"][1]["share"] == pytest.approx(0.25, abs=0.1)
    with Image.open(line["mask"]) as opened:
        mask = np.asarray(opened)
        assert opened.size == (150, 90)
    truth = np.zeros((90, 150), bool)
    truth[22:67, 37:112] = True
    assert ((mask == 2) & truth).sum() / ((mask == 2) | truth).sum() > 0.75
    with Image.open(line["annotated"]) as drawn:
        assert drawn.size == (150, 90)
    assert "class 2" in nanocv("infer", path, "--model", segmenter.folder).out


def test_a_cropped_image_is_unseen_outside_of_its_square() -> None:
    outputs = {"mask": np.ones((1, 8, 8), np.uint8), "confidence": np.full((1, 8, 8), 0.5, np.float32)}
    card = ModelCard("s", "segmentation", ("a", "b"), 8, "crop", "x", {}, "", {})
    (found,) = SegmentationPostprocessor().postprocess(outputs, card, 10, [(40, 20)])
    assert (found.mask[:, 10:30] == 1).all()
    assert (found.mask[:, :10] == UNSEEN).all()
    assert (found.mask[:, 30:] == UNSEEN).all()
    drawn = SegmentationPostprocessor().draw(np.full((20, 40, 3), 50, np.uint8), found, card)
    assert (drawn[0, :10] == 50).all()
    assert (drawn[0, 10:30] != 50).any(1).all()


def test_an_image_smaller_than_a_tile_is_one_tile(segmenter: TrainedRun, nanocv: Command, tmp_path: Path) -> None:
    assert nanocv("infer", square(tmp_path, 5, 4), "--model", segmenter.folder, "--tile", "512").code == 0
    assert nanocv("infer", square(tmp_path, 5, 4), "--model", segmenter.folder, "--tile", "3").code == 2


def test_a_graph_for_any_size(segmenter: TrainedRun, nanocv: Command, tmp_path: Path) -> None:
    done = nanocv("export", "onnx", "--model", segmenter.folder, "--any-size", "--out", tmp_path / "any.onnx", "--json")
    assert done.code == 0, done.err
    runner = Graph(tmp_path / "any.onnx")
    fixed = Graph(segmenter.folder / "model.onnx")
    assert [tensor.shape for tensor in runner.signature.inputs] == [(None, None, None, 3)]
    images = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)
    np.testing.assert_allclose(runner.run(images)["confidence"], fixed.run(images)["confidence"], atol=1e-4)
    assert runner.run(images[:, :40, :56])["mask"].shape == (2, 40, 56)
    served = nanocv("serve", "config", "--model", tmp_path / "any.onnx", "--repository", tmp_path / "models", "--json")
    assert served.code == 0, served.err
    text = Path(served.document["config"]).read_text()
    assert "dims: [ -1, -1, 3 ]" in text or "dims: [-1, -1, 3]" in text or "dims: -1" in text
    assert "dims: 64" in text or "64, 64, 3" in text  # the warm-up's


def test_the_graph_takes_any_batch_is_served_and_analysed(
    segmenter: TrainedRun, nanocv: Command, tmp_path: Path
) -> None:
    runner = Graph(segmenter.folder / "model.onnx")
    images = np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3), np.uint8)
    together = runner.run(images)
    assert (together["mask"].shape, together["mask"].dtype) == ((5, 64, 64), np.uint8)
    np.testing.assert_allclose(together["confidence"][3], runner.run(images[3:4])["confidence"][0], atol=1e-4)
    done = nanocv("serve", "config", "--model", segmenter.folder, "--repository", tmp_path / "models", "--json")
    assert done.code == 0, done.err
    text = Path(done.document["config"]).read_text()
    assert all(f'name: "{name}"' in text for name in ("images", "mask", "confidence"))
    layers = nanocv("analyze", "flops", "--model", segmenter.folder, "--json").document["layers"]
    assert sum(layer["flops"] for layer in layers) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": np.zeros((1, 4), np.uint8)}, "not mask"),
        ({"confidence": np.full((1, 4, 4), np.nan)}, "NaN"),
        ({"mask": np.full((1, 4, 4), 7, np.uint8)}, "class 7"),
    ],
)
def test_a_graph_that_answers_nonsense_is_refused(change: dict[str, Any], message: str) -> None:
    outputs = {"mask": np.zeros((1, 4, 4), np.uint8), "confidence": np.full((1, 4, 4), 0.5), **change}
    card = ModelCard("s", "segmentation", ("a", "b"), 4, "stretch", "x", {}, "", {})
    with pytest.raises(ModelError, match=message):
        SegmentationPostprocessor().postprocess(outputs, card, 10, [(10, 10)])


def test_dice_loss_by_hand_and_without_labels() -> None:
    logits = torch.tensor([[[[9.0, 9.0]], [[-9.0, -9.0]]]], requires_grad=True)  # sure of class 0 twice
    assert dice_loss(logits, torch.tensor([[[0, 0]]])).item() == pytest.approx(0.0, abs=1e-4)
    # Class 0: 2 * 1 / (2 + 1); class 1: 0.
    assert dice_loss(logits, torch.tensor([[[0, 1]]])).item() == pytest.approx(1 - (2 / 3) / 2, abs=1e-4)
    assert dice_loss(logits, torch.tensor([[[0, 255]]])).item() == pytest.approx(0.0, abs=1e-4)
    unlabelled = dice_loss(logits, torch.tensor([[[255, 255]]]))
    unlabelled.backward()
    assert unlabelled.item() == 0.0


def test_outputs_differ_only_where_pixels_are_decided() -> None:
    mask, sure = np.zeros((1, 2, 2), np.uint8), np.full((1, 2, 2), 0.9)
    other = mask.copy()
    other[0, 0, 0] = 1
    parity_error = Segmentation().parity_error
    assert parity_error({"mask": mask, "confidence": sure}, {"mask": mask, "confidence": sure}) == 0.0
    assert parity_error({"mask": mask, "confidence": sure}, {"mask": other, "confidence": sure}) == 1.0
    sure[0, 0, 0] = 0.5
    assert parity_error({"mask": mask, "confidence": sure}, {"mask": other, "confidence": sure}) == 0.0
    assert np.isnan(parity_error({"mask": mask, "confidence": sure}, {"mask": mask, "confidence": sure * np.nan}))


@pytest.mark.slow(14)
@pytest.mark.filterwarnings("ignore")
def test_torchvisions_segmenters_stand_behind_the_same_door(nanocv: Command, project: Path) -> None:
    data = write_masked_set(project / "shapes", {"train": 4, "val": 2})
    done = nanocv("train", "--data", data, "--model", "lraspp_mobilenet_v3_large", "--set", "model.input_size=64",
                  "--set", "train.epochs=1", "--set", "train.batch_size=2", "--out", "run", "--json")  # fmt: skip
    assert done.code == 0, done.err
    assert nanocv("eval", "--model", "run", "--data", data, "--engine", "onnx", "--json").code == 0
    refused = nanocv("train", "--data", data, "--model", "lraspp_mobilenet_v3_larg")
    assert refused.code == 2
    assert "did you mean lraspp_mobilenet_v3_large?" in refused.err


def test_sets_that_teach_nothing_are_told(nanocv: Command, project: Path) -> None:
    data = write_masked_set(project / "one", {"train": 3, "val": 2})
    for path in data.rglob("masks/*.png"):
        Image.fromarray(np.zeros((64, 96), np.uint8)).save(path)
    refused = nanocv("train", "--data", data, "--model", "nanoseg", *TINY)
    assert refused.code == 1
    assert "one class only" in refused.err
    for path in data.rglob("masks/*.png"):
        Image.fromarray(np.full((64, 96), 255, np.uint8)).save(path)
    refused = nanocv("train", "--data", data, "--model", "nanoseg", *TINY)
    assert refused.code == 1
    assert "its masks label nothing" in refused.err


def test_a_mask_of_another_size_than_its_image_is_told(nanocv: Command, project: Path) -> None:
    data = write_masked_set(project / "odd", {"train": 3, "val": 2})
    Image.fromarray(np.zeros((64, 90), np.uint8)).save(data / "train" / "masks" / "001.png")
    checked = nanocv("data", "check", data)
    assert checked.code == 1
    assert "001.png" in checked.out + checked.err


def test_the_live_score_is_the_share_of_right_pixels() -> None:
    counted = Segmentation().train_metric(
        torch.tensor([[[[1.0, 1.0]], [[0.0, 2.0]]]]), torch.tensor([[[0, 0]]], dtype=torch.uint8)
    )
    assert counted.item() == pytest.approx(0.5)
