"""A tiny detector on the whole road: train, evaluate on both engines, infer, draw, export, analyse."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.graph import Graph
from nanocv_cli.images.drawing import Frame, draw_frames
from nanocv_cli.tasks.detection.postprocessor import DetectionPostprocessor
from tests.boxed import write_boxed_set
from tests.conftest import Command, TrainedRun, training_run

TINY = ("--set", "model.input_size=64", "--set", "train.batch_size=8", "--set", "train.precision=fp32")


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainedRun]:
    root = tmp_path_factory.mktemp("detector")
    data = write_boxed_set(root / "boxes", {"train": 48, "val": 16})
    with training_run(root, data, "--model", "nanospot", *TINY, "--set", "train.epochs=12") as run:
        yield run


def test_it_learns_and_leaves_what_every_run_leaves(detector: TrainedRun) -> None:
    assert detector.summary["metrics"]["map50"] > 0.5
    assert {"map", "map50", "per_class"} <= detector.summary["metrics"].keys()
    for name in ("model.onnx", "curves.png", "precision_recall.png", "summary.json", "checkpoints/best.safetensors"):
        assert (detector.folder / name).stat().st_size > 500


def test_both_engines_measure_the_same(detector: TrainedRun, nanocv: Command) -> None:
    figures = [
        nanocv("eval", "--model", detector.folder, "--data", detector.data, "--engine", engine, "--json").document
        for engine in ("torch", "onnx")
    ]
    assert figures[0]["metrics"]["map"] == pytest.approx(figures[1]["metrics"]["map"], abs=1e-3)
    assert figures[0]["n"] == 16
    text = nanocv("eval", "--model", detector.folder, "--data", detector.data)
    assert text.code == 0, text.err
    assert "map50" in text.out


def test_a_set_with_its_classes_in_another_order_is_measured_alike(
    detector: TrainedRun, nanocv: Command, tmp_path: Path
) -> None:
    config = tmp_path / "turned.yaml"
    config.write_text(f"name: turned\npath: {detector.data}\nformat: coco\nclasses: [red, blue]\n")
    metrics = nanocv("eval", "--model", detector.folder, "--data", config, "--json").document["metrics"]
    assert metrics["map"] == pytest.approx(detector.summary["metrics"]["map"], abs=0.02)


def test_boxes_come_in_pixels_of_the_original(detector: TrainedRun, nanocv: Command, tmp_path: Path) -> None:
    image = np.full((100, 300, 3), 110, np.uint8)
    image[20:70, 150:240] = (220, 40, 50)
    Image.fromarray(image).save(tmp_path / "one.png")
    out = tmp_path / "drawn"
    done = nanocv("infer", tmp_path / "one.png", "--model", detector.folder, "--out", out, "--json")
    assert done.code == 0, done.err
    line = json.loads(done.out)
    assert line["task"] == "detection"
    best = line["predictions"][0]
    assert best["label"] == "red"
    assert np.abs(np.array(best["box"]) - (150, 20, 240, 70)).max() < 20
    with Image.open(line["annotated"]) as drawn:
        assert drawn.size == (300, 100)
        assert np.abs(np.asarray(drawn).astype(int) - image).max() > 50
    assert "1 red" in nanocv("infer", tmp_path / "one.png", "--model", detector.folder, "--top", "1").out


def test_objects_of_a_large_image_are_found_in_tiles(detector: TrainedRun, nanocv: Command, tmp_path: Path) -> None:
    image = np.full((200, 600, 3), 110, np.uint8)
    places = ((40, 30, 75, 60), (420, 110, 450, 150))
    for x0, y0, x1, y1 in places:
        image[y0:y1, x0:x1] = (220, 40, 50)
    Image.fromarray(image).save(tmp_path / "large.png")
    options = ("--tile", "100", "--batch-size", "3", "--json")
    found = nanocv("infer", tmp_path / "large.png", "--model", detector.folder, *options)
    assert found.code == 0, found.err
    boxes = [entry["box"] for entry in json.loads(found.out)["predictions"] if entry["label"] == "red"]
    for place in places:
        assert min(np.abs(np.array(box) - place).max() for box in boxes) < 12


def test_an_image_without_objects_is_answered(detector: TrainedRun, nanocv: Command, tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), (110, 110, 110)).save(tmp_path / "none.png")
    assert "none.png  nothing" in nanocv("infer", tmp_path / "none.png", "--model", detector.folder).out


def test_the_graph_takes_any_batch_and_is_analysed(detector: TrainedRun, nanocv: Command) -> None:
    runner = Graph(detector.folder / "model.onnx")
    images = np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3), np.uint8)
    together = runner.run(images)
    assert together["boxes"].shape[0] == together["scores"].shape[0] == 5
    alone = runner.run(images[3:4])
    np.testing.assert_allclose(together["scores"][3], alone["scores"][0], atol=1e-4)
    layers = nanocv("analyze", "flops", "--model", detector.folder, "--json").document["layers"]
    assert sum(layer["flops"] for layer in layers) > 0


def test_serving_takes_the_graph_with_all_its_outputs(detector: TrainedRun, nanocv: Command, tmp_path: Path) -> None:
    done = nanocv("serve", "config", "--model", detector.folder, "--repository", tmp_path / "models", "--json")
    assert done.code == 0, done.err
    config = Path(done.document["config"]).read_text()
    assert all(f'name: "{name}"' in config for name in ("images", "boxes", "scores", "labels"))


def card(metrics: dict[str, Any]) -> ModelCard:
    return ModelCard("d", "detection", ("cat", "dog"), 64, "stretch", "x", {}, "", metrics)


def test_each_class_has_the_threshold_of_its_best_f1() -> None:
    outputs = {
        "boxes": np.array([[[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]]),
        "scores": np.array([[0.5, 0.45, 0.2]]),
        "labels": np.array([[0, 1, 1]]),
    }
    metrics = {"per_class": {"cat": {"threshold": 0.55}, "dog": {"threshold": 0.15}}}
    (found,) = DetectionPostprocessor().postprocess(outputs, card(metrics), 10, [(200, 100)])
    assert [(entry.label, entry.box) for entry in found.predictions] == [
        ("dog", (100.0, 50.0, 200.0, 100.0)),
        ("dog", (0.0, 0.0, 200.0, 100.0)),
    ]
    (plain,) = DetectionPostprocessor().postprocess(outputs, card({}), 10, [(200, 100)])
    assert [entry.label for entry in plain.predictions] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": np.zeros((1, 3, 5))}, "not boxes"),
        ({"scores": np.array([[np.nan, 0.1, 0.1]])}, "NaN"),
        ({"labels": np.array([[7, 0, 0]])}, "class 7"),
    ],
)
def test_a_graph_that_answers_nonsense_is_refused(change: dict[str, Any], message: str) -> None:
    from nanocv_cli.errors import ModelError

    outputs = {"boxes": np.zeros((1, 3, 4)), "scores": np.full((1, 3), 0.5), "labels": np.zeros((1, 3), int), **change}
    with pytest.raises(ModelError, match=message):
        DetectionPostprocessor().postprocess(outputs, card({}), 10, [(10, 10)])


def test_frames_are_drawn_on_tiny_and_large_images_and_over_the_edge() -> None:
    for size in ((8, 8), (40, 30), (3000, 2000)):
        image = Image.new("RGB", size, (90, 90, 90))
        frames = [
            Frame((-5.0, -5.0, size[0] / 2, size[1] / 2), "daisy 99", (250, 200, 0)),
            Frame((size[0] / 2, 0.0, size[0] * 2.0, size[1] * 1.0), "tulip 50", (0, 40, 250)),
        ]
        draw_frames(image, frames)
        assert np.asarray(image).std() > 0


@pytest.mark.slow(9)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn"])
def test_torchvisions_detectors_stand_behind_the_same_door(nanocv: Command, project: Path, name: str) -> None:
    data = write_boxed_set(project / "boxes", {"train": 4, "val": 2})
    done = nanocv("train", "--data", data, "--model", name, "--set", "model.input_size=96", "--set", "train.epochs=1",
                  "--set", "train.batch_size=2", "--out", "run", "--json")  # fmt: skip
    assert done.code == 0, done.err
    assert Path(done.document["onnx"]).is_file()
    assert nanocv("eval", "--model", "run", "--data", data, "--engine", "onnx", "--json").code == 0
    assert nanocv("infer", data / "val", "--model", "run", "--json").code == 0
    refused = nanocv("train", "--data", data, "--model", "maskrcnn_resnet50_fpn")
    assert refused.code == 2
    assert "learns from more than boxes" in refused.err
    refused = nanocv("train", "--data", data, "--model", "ssd300_vgg16")
    assert "reads 300x300 images" in refused.err
