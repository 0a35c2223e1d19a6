"""The spine of `nanocv eval`: a model file, a data set, the task's metrics."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.batches import Images
from nanocv_cli.data.dataset import Dataset, Samples, expect_split
from nanocv_cli.data.sources import image_folder
from nanocv_cli.display import Display
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.engine import open_engine
from nanocv_cli.engine.runtimes import BY_DEFAULT, RunSettings
from nanocv_cli.errors import RequestError
from nanocv_cli.evaluation.evaluate import Answer, evaluate, load_split, torch_answer
from nanocv_cli.models.checkpoint import load_network, model_config
from nanocv_cli.models.device import pick_device
from nanocv_cli.tasks.evaluator import EvalContext, Evaluator, Metrics
from nanocv_cli.tasks.table import task_for


@dataclass(frozen=True)
class Measured:
    """A filled evaluator and what it was filled with.

    Attributes:
        file: the model's, or its URL.
        card: its card.
        runtime: what ran it, as `OpenedModel` has it.
        data: name of the set.
        split: of it.
        fingerprint: changes with the image files that the split is made of, whatever their labels.
        images: uint8 [n,S,S,3] of the split, in its order.
        evaluator: has seen the answers to all of them.
    """

    file: str
    card: ModelCard
    runtime: str
    data: str
    split: str
    fingerprint: str
    images: Images
    evaluator: Evaluator

    @cached_property
    def metrics(self) -> Metrics:
        """The task's standard metrics by name, JSON-ready."""
        return self.evaluator.compute()


@dataclass(frozen=True)
class OpenedModel:
    """A model that is ready to be measured.

    Attributes:
        origin: its file or URL.
        card: its card.
        answer: from what its task feeds it to named outputs.
        runtime: what runs it: `torch`, or as an engine has it.
    """

    origin: str
    card: ModelCard
    answer: Answer
    runtime: str


def open_checkpoint(file: Path, device: str) -> OpenedModel:
    """A checkpoint, run by torch; see `pick_device`.

    Raises:
        ModelError: the file is damaged or not ours.
        RequestError: torch has no such device.
    """
    chosen = pick_device(device)
    network, config, card = load_network(file)
    task = task_for(card.task)
    answer = torch_answer(task, task.export_model(network, config).to(chosen).eval(), chosen)
    return OpenedModel(str(file), card, answer, "torch")


def open_graph(ref: str | None, root: Path, settings: RunSettings = BY_DEFAULT) -> OpenedModel:
    """An exported graph, in this process or on a server.

    Raises:
        NanocvError: as `open_engine`.
    """
    engine = open_engine(ref, root, settings)
    return OpenedModel(engine.origin, engine.card, engine.answer, engine.runtime)


def measure(
    opened: OpenedModel,
    data: DataConfig,
    split: str | None,
    batch_size: int,
    root: Path,
    cache: Path,
    display: Display,
    online: bool = False,
) -> Measured:
    """Measures one model on one split.

    Args:
        opened: the model.
        data: the set; its classes may stand in another order than the model's.
        split: None takes test where there is one, else val.
        batch_size: images per call.
        root: the project.
        cache: folder of decoded images.
        display: where to tell of it.
        online: measure what needs a download as well.

    Raises:
        RequestError: the set has other classes than the model, or nothing needs a download.
    """
    card = opened.card
    task, model = task_for(card.task), model_config(card, opened.origin)
    if online and not task.online_metrics:
        raise RequestError(f"no figure of {card.task} needs a download", "leave --online out")
    dataset = match_classes(task.read(data, image_folder(data, root, display)), card.classes)
    chosen = split or dataset.held_out
    expect_split(dataset, chosen)
    images = load_split(dataset, chosen, task, cache, card.input_size, card.resize, display)
    train_images = None
    if task.wants_train_images and chosen != "train" and dataset.splits.get("train"):
        train_images = load_split(dataset, "train", task, cache, card.input_size, card.resize, display).images
    context = EvalContext(train_images, online)
    with display.bar(f"measuring {chosen}") as progress:
        evaluator = evaluate(task, opened.answer, images, card.classes, model, context, batch_size, progress)
    fingerprint = _fingerprint(dataset, chosen)
    return Measured(opened.origin, card, opened.runtime, dataset.name, chosen, fingerprint, images.images, evaluator)


def _fingerprint(dataset: Dataset[Any], split: str) -> str:
    paths = b"\0".join(state.place for state in dataset.split(split).paths.states())
    return hashlib.sha256(paths).hexdigest()[:16]


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
    splits = {split: Samples.of(samples).renumbered(numbers) for split, samples in dataset.splits.items()}
    return replace(dataset, classes=classes, splits=splits)
