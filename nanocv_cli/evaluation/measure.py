"""The spine of `nanocv eval`: a model file, a data set, the task's metrics."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.dataset import Dataset, Sample, expect_split
from nanocv_cli.data.sources import image_folder
from nanocv_cli.display import Display
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.graph import Graph
from nanocv_cli.engine.sessions import pick_session_device
from nanocv_cli.errors import RequestError
from nanocv_cli.evaluation.evaluate import Answer, evaluate, torch_answer
from nanocv_cli.evaluation.split import load_split
from nanocv_cli.models.checkpoint import load_network, model_config
from nanocv_cli.models.device import pick_device
from nanocv_cli.tasks.base import EvalContext, Evaluator, Metrics
from nanocv_cli.tasks.table import task_for


@dataclass(frozen=True)
class Measured:
    """A filled evaluator and what it was filled with.

    Attributes:
        file: the model's.
        card: its card.
        data: name of the set.
        split: of it.
        images: uint8 [n,S,S,3] of the split, in its order.
        evaluator: has seen the answers to all of them.
    """

    file: Path
    card: ModelCard
    data: str
    split: str
    images: NDArray[np.uint8]
    evaluator: Evaluator

    @cached_property
    def metrics(self) -> Metrics:
        """The task's standard metrics by name, JSON-ready."""
        return self.evaluator.compute()


def open_answer(file: Path, device: str) -> tuple[Answer, ModelCard]:
    """A model file as a function from what its task feeds it to named outputs: `.onnx` by ONNX Runtime.

    Raises:
        ModelError: the file is damaged or not ours.
        RequestError: what runs the file has no such device.
    """
    if file.suffix == ".onnx":
        graph = Graph(file, device=pick_session_device(device))
        return graph.answer, graph.card
    chosen = pick_device(device)
    network, config, card = load_network(file)
    task = task_for(card.task)
    return torch_answer(task, task.export_model(network, config).to(chosen).eval(), chosen), card


def measure(
    file: Path,
    data: DataConfig,
    split: str | None,
    device: str,
    batch_size: int,
    root: Path,
    cache: Path,
    display: Display,
    online: bool = False,
) -> Measured:
    """Measures one model file on one split.

    Args:
        file: `.safetensors` or `.onnx` with a card.
        data: the set; its classes may stand in another order than the model's.
        split: None takes test where there is one, else val.
        device: as `pick_device` has it for checkpoints, and `pick_session_device` for graphs.
        batch_size: images per call.
        root: the project.
        cache: folder of decoded images.
        display: where to tell of it.
        online: measure what needs a download as well.

    Raises:
        RequestError: the set has other classes than the model, there is no such device, or nothing needs a download.
    """
    answer, card = open_answer(file, device)
    task, model = task_for(card.task), model_config(card, file)
    if online and not task.online_metrics:
        raise RequestError(f"no figure of {card.task} needs a download", "leave --online out")
    dataset = match_classes(task.read(data, image_folder(data, root, display.say)), card.classes)
    chosen = split or dataset.held_out
    expect_split(dataset, chosen)
    images = load_split(dataset, chosen, task, cache, card.input_size, card.resize, display)
    train_images = None
    if task.wants_train_images and chosen != "train" and dataset.splits.get("train"):
        train_images = load_split(dataset, "train", task, cache, card.input_size, card.resize, display).images
    context = EvalContext(train_images, online)
    with display.bar(f"measuring {chosen}") as progress:
        evaluator = evaluate(task, answer, images, card.classes, model, context, batch_size, progress)
    return Measured(file, card, dataset.name, chosen, images.images, evaluator)


def match_classes(dataset: Dataset[Any], classes: tuple[str, ...]) -> Dataset[Any]:
    """The set with its labels renumbered to the model's class order.

    Raises:
        RequestError: the set has a class that the model does not know.
    """
    unknown = [name for name in dataset.classes if name not in classes]
    if unknown:
        raise RequestError(
            f"data set {dataset.name} has classes the model does not know: {', '.join(unknown)}",
            f"the model knows {', '.join(classes)}",
        )
    numbers = [classes.index(name) for name in dataset.classes]
    splits = {
        split: tuple(Sample(sample.path, sample.label.remap(numbers)) for sample in samples)
        for split, samples in dataset.splits.items()
    }
    return Dataset(dataset.name, dataset.root, classes, splits, dataset.notes)
