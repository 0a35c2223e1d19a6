"""A tiny generator on the whole road: train, evaluate, sample on both engines, export, serve, bench, analyse."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from nanocv_cli.config.loader import resolve
from nanocv_cli.data.batches import Share
from nanocv_cli.engine.graph import Graph
from nanocv_cli.engine.openvino_graph import OpenVinoGraph
from nanocv_cli.errors import ModelError
from nanocv_cli.models.nanoflow import NanoFlow
from nanocv_cli.tasks.base import StepSettings
from nanocv_cli.tasks.generation.sampler import CheckpointSampler
from nanocv_cli.tasks.generation.sampling import GraphSampler, image_noise
from nanocv_cli.tasks.generation.task import Generation
from nanocv_cli.tasks.sampler import SamplingSettings
from tests.conftest import COLOURS, Command, TrainedRun, training_run, write_tiny_set

TINY = (
    "model.input_size=16",
    "model.sampling.steps=3",
    "train.epochs=4",
    "train.judge_every=3",
    "train.batch_size=8",
    "train.precision=fp32",
    "train.learning_rate=0.01",
    "train.ema_decay=0.5",
)
CLASSES = tuple(sorted(COLOURS))


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory, trained: TrainedRun) -> Iterator[TrainedRun]:
    root = tmp_path_factory.mktemp("generator")
    data = write_tiny_set(root / "colours", {"train": 24, "val": 6})
    sets = [word for pair in (*TINY, f"model.classifier={trained.graph}") for word in ("--set", pair)]
    with training_run(root, data, "--model", "nanoflow", *sets) as run:
        yield run


def test_it_learns_and_leaves_what_every_run_leaves_and_samples_over_time(generator: TrainedRun) -> None:
    metrics = generator.summary["metrics"]
    assert {"frechet", "precision", "recall", "density", "coverage", "class_accuracy", "copies"} <= metrics.keys()
    assert metrics["classifier_accuracy"] > 0.8
    assert generator.summary["epochs"] == 4
    assert sorted(path.name for path in (generator.folder / "samples").iterdir()) == [
        "epoch-0003.png",
        "epoch-0004.png",
    ]
    for name in ("model.onnx", "curves.png", "samples.png", "nearest.png", "summary.json"):
        assert (generator.folder / name).stat().st_size > 500


def test_both_engines_measure_the_same(generator: TrainedRun, nanocv: Command, tmp_path: Path) -> None:
    figures = [
        nanocv("eval", "--model", generator.folder, "--data", generator.data, "--engine", engine, "--json").document
        for engine in ("torch", "onnx")
    ]
    for name in ("frechet", "coverage", "class_accuracy"):
        assert figures[0]["metrics"][name] == pytest.approx(figures[1]["metrics"][name], abs=1e-2)
    shown = nanocv("eval", "--model", generator.folder, "--data", generator.data, "--out", tmp_path / "evaluated")
    assert "frechet" in shown.out
    assert (tmp_path / "evaluated" / "nearest.png").is_file()


def test_a_seed_makes_the_same_images_on_each_engine(generator: TrainedRun, nanocv: Command, tmp_path: Path) -> None:
    images = {}
    for engine, batch in (("onnx", "1"), ("torch", "5")):
        done = nanocv("sample", "--model", generator.folder, "--class", "red", "--class", "blue", "-n", "3",
                      "--seed", "7", "--out", tmp_path / engine, "--engine", engine, "--batch-size", batch,
                      "--json")  # fmt: skip
        assert done.code == 0, done.err
        assert done.document["classes"] == ["red", "blue"]
        assert len(done.document["pictures"]) == 6
        images[engine] = np.stack([np.asarray(Image.open(path)) for path in done.document["pictures"]]).astype(int)
    assert images["onnx"].shape == (6, 16, 16, 3)
    assert np.abs(images["onnx"] - images["torch"]).max() <= 1
    assert len(np.unique(images["onnx"], axis=0)) == 6


def test_the_graph_follows_steps_guidance_and_solver_as_the_checkpoint_does(generator: TrainedRun) -> None:
    samplers = GraphSampler(Graph(generator.graph)), CheckpointSampler(generator.checkpoint, torch.device("cpu"))
    noise, labels = image_noise(0, 0, 3, 16), np.array([0, 1, 2])
    made = []
    for settings in (
        SamplingSettings(3, 1.5, True),
        SamplingSettings(5, 1.5, False),
        SamplingSettings(3, 4.0, True),
        SamplingSettings(5, 1.5, False, 2),
        SamplingSettings(1, 0.0, True, 0),
    ):
        by_graph, by_torch = (sampler.make(noise, labels, settings).astype(int) for sampler in samplers)
        assert np.abs(by_graph - by_torch).max() <= 1
        made.append(by_graph.tobytes())
    assert len(set(made)) == len(made)
    plain = Graph(generator.graph).answer({"noise": noise, "label": labels})["image"]
    assert (
        np.abs(plain.astype(int) - samplers[0].make(noise, labels, SamplingSettings(3, 1.5, True))).max() == 0
    )  # the config's own way


def test_openvino_makes_the_same_images_by_the_model_s_own_settings(
    generator: TrainedRun, nanocv: Command, tmp_path: Path
) -> None:
    ways = GraphSampler(Graph(generator.graph)), GraphSampler(OpenVinoGraph(generator.graph))
    noise, labels = image_noise(0, 0, 5, 16), np.array([0, 1, 2, 0, 1])
    made = [way.make(noise, labels, way.settings()).astype(int) for way in ways]
    assert np.abs(made[0] - made[1]).max() <= 1
    refused = nanocv("sample", "--model", generator.folder, "--engine", "openvino", "--steps", "2", "--out",
                     tmp_path / "grid.png")  # fmt: skip
    assert (refused.code, (tmp_path / "grid.png").exists()) == (2, False)
    assert "own steps, guidance and solver" in refused.err


def test_the_graph_holds_the_whole_sampler_and_each_weight_once(generator: TrainedRun) -> None:
    model = onnx.load(generator.graph)
    onnx.checker.check_model(model, full_check=True)
    with safe_open(generator.checkpoint, "np") as file:
        weights = sum(file.get_tensor(name).nbytes for name in list(file.keys()))
    assert generator.graph.stat().st_size < 1.1 * weights + 150_000
    assert [node.op_type for node in model.graph.node].count("Loop") == 1
    graph = Graph(generator.graph)
    assert [tensor.name for tensor in graph.signature.inputs] == ["noise", "label"]
    assert [(tensor.name, tensor.type) for tensor in graph.signature.outputs] == [("image", "tensor(uint8)")]
    noise = image_noise(3, 0, 5, 16)
    labels = np.array([2, 0, 1, 1, 0])
    together = graph.answer({"noise": noise, "label": labels})["image"].astype(int)
    alone = graph.answer({"noise": noise[3:4], "label": labels[3:4]})["image"].astype(int)
    assert together.shape == (5, 16, 16, 3)
    assert np.abs(together[3] - alone[0]).max() <= 1


def test_a_grid_and_a_trajectory(generator: TrainedRun, nanocv: Command, tmp_path: Path) -> None:
    done = nanocv("sample", "--model", generator.folder, "-n", "4", "--out", tmp_path / "grid.png", "--steps", "4",
                  "--solver", "euler", "--guidance", "2", "--trajectory", "--json")  # fmt: skip
    assert done.code == 0, done.err
    document = done.document
    assert (document["steps"], document["guidance"], document["solver"], document["n"]) == (4, 2.0, "euler", 12)
    with Image.open(tmp_path / "grid.png") as grid, Image.open(document["trajectory"]) as strip:
        assert grid.width > 3 * 96
        assert strip.width > 5 * 96  # noise and four steps
    assert (
        "12 images of blue, green, red"
        in nanocv("sample", "--model", generator.folder, "-n", "4", "--out", tmp_path / "grid.png").out
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--class", "rad"), "did you mean red?"),
        (("--class", "zebra"), "it knows blue, green, red"),
        (("--out", "grid.jpg"), "grid.png"),
        (("-n", "500"), "single images"),
        (("--steps", "0"), "--steps"),
        (("--engine", "torch", "--device", "abacus"), "unknown device"),
    ],
)
def test_bad_requests_are_one_line_and_write_nothing(
    generator: TrainedRun, nanocv: Command, project: Path, options: tuple[str, ...], message: str
) -> None:
    done = nanocv("sample", "--model", generator.folder, *options)
    assert done.code == 2
    assert message in done.err
    assert list(project.iterdir()) == []


def test_models_that_read_and_models_that_make_are_told_apart(
    generator: TrainedRun, trained: TrainedRun, nanocv: Command, tmp_path: Path
) -> None:
    image = next((generator.data / "val").rglob("*.png"))
    refused = nanocv("infer", image, "--model", generator.folder)
    assert refused.code == 1
    assert "makes images" in refused.err
    assert "nanocv sample" in refused.err
    for engine in ("onnx", "torch"):
        refused = nanocv("sample", "--model", trained.folder, "--engine", engine, "--out", tmp_path / "x.png")
        assert refused.code == 1
        assert "makes no images" in refused.err
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(generator.graph.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        GraphSampler(Graph(damaged))


def test_it_is_served_benched_and_analysed(generator: TrainedRun, nanocv: Command, tmp_path: Path) -> None:
    done = nanocv("serve", "config", "--model", generator.folder, "--repository", tmp_path / "models", "--json")
    assert done.code == 0, done.err
    text = Path(done.document["config"]).read_text()
    assert all(f'name: "{name}"' in text for name in ("noise", "label", "image"))
    assert 'name: "guidance"' not in text
    benched = nanocv("bench", "model", "--model", generator.graph, "--batch-sizes", "1,2", "--threads", "1",
                     "--rounds", "1", "--round-s", "0.05", "--json")  # fmt: skip
    assert benched.code == 0, benched.err
    assert [row["batch_size"] for row in benched.document["rows"]] == [1, 2]
    by_torch, by_graph = (
        nanocv("analyze", "flops", "--model", ref, "--json").document["total"]["flops"]
        for ref in (generator.checkpoint, generator.graph)
    )
    printed = nanocv("analyze", "flops", "--model", generator.graph).out
    assert "_conv2d x5 " in printed
    # The checkpoint is one evaluation; the graph three Heun steps, five evaluations with class and without.
    assert by_graph == pytest.approx(10 * by_torch, rel=0.02)


def test_what_the_network_learns_leads_from_noise_to_the_image() -> None:
    config = resolve(model="nanoflow", train="generate").config
    images = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8)
    seed = torch.Generator().manual_seed(0)
    train = config.train.model_copy(
        update={"label_dropout": 0.5, "augment": config.train.augment.model_copy(update={"flip": False})}
    )
    settings = StepSettings(32, torch.float32, config.model, train, seed, Share(0, 6, 6))
    inputs, path = Generation().augment(images, torch.arange(6) % 3, settings)
    clean = images.permute(0, 3, 1, 2) / 127.5 - 1.0
    arrived = inputs + (1 - path.time.view(-1, 1, 1, 1)) * path.velocity
    torch.testing.assert_close(arrived, clean, atol=1e-4, rtol=0)
    assert set(path.label.tolist()) <= {-1, 0, 1, 2}
    assert -1 in path.label.tolist()
    loss = Generation().loss(path.velocity + 2, path, train)
    assert loss.item() == pytest.approx(4.0)
    assert Generation().train_metric(path.velocity, path).item() == pytest.approx(6.0)


def test_the_network_is_small_and_needs_a_multiple_of_sixteen(nanocv: Command, project: Path) -> None:
    for size in (32, 64):
        network = NanoFlow(4, size)
        assert sum(parameter.numel() for parameter in network.parameters()) < 4e6
        noisy = torch.randn(2, 3, size, size)
        assert network(noisy, torch.rand(2), torch.tensor([0, 3])).shape == noisy.shape
    write_tiny_set(project / "colours", {"train": 2, "val": 1})
    refused = nanocv("train", "--data", project / "colours", "--model", "nanoflow", "--set", "model.input_size=40")
    assert refused.code == 2
    assert "multiple of 16" in refused.err
    assert "--set model.input_size=32" in refused.err
