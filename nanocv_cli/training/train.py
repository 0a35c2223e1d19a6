"""The spine of `nanocv train`: cached pictures, a learner, epochs, the best weights and their final figures."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nanocv_cli import __version__
from nanocv_cli.config.loader import config_hash
from nanocv_cli.config.schema import RunConfig
from nanocv_cli.data.batches import Batches
from nanocv_cli.data.cache import cached_split
from nanocv_cli.data.dataset import Dataset
from nanocv_cli.errors import RequestError, TrainingError
from nanocv_cli.inference.card import ModelCard
from nanocv_cli.models.registry import build_model
from nanocv_cli.tasks.base import Metrics, Task
from nanocv_cli.tasks.registry import task_for
from nanocv_cli.training import checkpoint
from nanocv_cli.training.checkpoint import TrainingState
from nanocv_cli.training.device import pick_precision
from nanocv_cli.training.display import Display, epoch_line
from nanocv_cli.training.evaluation import evaluate, torch_answer
from nanocv_cli.training.history import DvcLog, draw_curves
from nanocv_cli.training.interrupts import Interrupts, watch_interrupts
from nanocv_cli.training.learner import Learner
from nanocv_cli.training.run_directory import RunDirectory

# Training pictures are cached a little larger than the network reads them, so that crops stay sharp.
TRAIN_MARGIN = 8 / 7
SECONDS_BETWEEN_SAVES = 300.0
STEPS_BETWEEN_CHECKS = 20


class Interrupted(TrainingError):
    """The user stopped the training; its state is saved."""

    exit_code = 130


@dataclass(frozen=True)
class Pictures:
    """One cached split: uint8 [n,S,S,3] and its targets [n,...]."""

    images: NDArray[np.uint8]
    targets: NDArray[Any]


@dataclass(frozen=True)
class Trained:
    """What a training gives.

    Attributes:
        epochs: learnt.
        seconds: spent on training steps, interruptions left out.
        images_per_second: over all training steps.
        metrics: of the best weights on the held-out split.
        split: that split.
    """

    epochs: int
    seconds: float
    images_per_second: float
    metrics: Metrics
    split: str


def load_split(
    dataset: Dataset[Any], split: str, task: Task, cache: Path, size: int, resize: str, display: Display
) -> Pictures:
    """Maps one split's pictures, decoding them at first use, and says which could not be read."""
    samples = dataset.split(split)
    with display.bar(f"decoding {split}") as progress:
        cached = cached_split(cache, samples, size, resize, progress)
    for path, reason in cached.unreadable[:10]:
        display.say(f"warning: left out of {split}: {path}: {reason}")
    if len(cached.unreadable) > 10:
        display.say(f"warning: {len(cached.unreadable)} unreadable pictures in {split}; nanocv data check names all")
    return Pictures(cached.images, task.targets([samples[i] for i in cached.kept]))


def train(
    config: RunConfig, run: RunDirectory, dataset: Dataset[Any], cache: Path, device: torch.device, display: Display
) -> Trained:
    """Trains to the end, from wherever the run folder's last checkpoint stands.

    Args:
        config: the resolved config.
        run: its folder, locked by this process.
        dataset: pictures and labels.
        cache: folder of decoded pictures.
        device: where to train.
        display: where to tell of it.

    Raises:
        Interrupted: the user stopped it; the state is saved.
        TrainingError: the loss became NaN or infinite.
        RequestError: the run to resume was trained on other data.
        StorageError: a file could not be written; what was saved before stays.
    """
    task = task_for(config.model.task)
    size, resize = config.model.input_size, config.model.resize
    # The network comes first: a config it cannot serve is answered before any picture is decoded.
    torch.manual_seed(config.train.seed)
    # A resumed run loads its own weights: torchvision's need not be at hand again.
    source = config.model.model_copy(update={"pretrained": False}) if run.last.is_file() else config.model
    network = build_model(source, len(dataset.classes)).to(device).to(memory_format=torch.channels_last)
    learning = load_split(dataset, "train", task, cache, round(size * TRAIN_MARGIN), resize, display)
    judging = load_split(dataset, "val", task, cache, size, resize, display)
    batches = Batches(learning.images, learning.targets, config.train.batch_size, config.train.seed)
    learner = Learner(network, task, config, device, pick_precision(config.train.precision, device))
    state = _restore(run, learner, dataset)
    log = DvcLog(run.dvclive, state.history)
    parameters = sum(p.numel() for p in network.parameters())
    display.say(
        f"{config.model.name} ({parameters:,} parameters) on {dataset.name}: {len(learning.images)} train, "
        f"{len(judging.images)} val pictures; {device.type} {learner.precision}; {run.path}"
    )
    with watch_interrupts() as interrupts:
        while state.epoch < config.train.epochs:
            learn_epoch(learner, batches, state, run, interrupts, display)
            _close_epoch(learner, judging, state, batches, run, dataset, log, display)
    return _finish(run, task, config, dataset, cache, device, state, log, batches, display)


def learn_epoch(
    learner: Learner,
    batches: Batches,
    state: TrainingState,
    run: RunDirectory,
    interrupts: Interrupts,
    display: Display,
) -> None:
    """Learns the rest of the epoch that `state` stands in, saving on a wish to stop and every few minutes."""
    epochs, score = learner.config.train.epochs, learner.task.best_metric
    losses: list[tuple[torch.Tensor, torch.Tensor, int]] = []
    saved = started = time.perf_counter()
    with display.bar(f"epoch {state.epoch + 1}/{epochs}") as progress:
        for images, targets in batches.epoch(state.epoch, state.step):
            loss, hits = learner.learn(images, targets, state.epoch, state.step, batches.per_epoch)
            losses.append((loss, hits, len(images)))
            state.step += 1
            stop = interrupts.wanted
            save = stop or time.perf_counter() - saved > SECONDS_BETWEEN_SAVES
            # Reading a loss waits for the device, so it is done once in a while.
            if save or len(losses) == STEPS_BETWEEN_CHECKS or state.step == batches.per_epoch:
                _count(losses, state, run, learner)
                now = time.perf_counter()
                state.seconds, started = state.seconds + now - started, now
            if state.seen:
                done = state.epoch * batches.per_epoch + state.step
                rate = done * batches.batch_size / max(state.seconds, 1e-9)
                loss_so_far, score_so_far = state.loss_sum / state.seen, state.hits / state.seen
                note = f"loss {loss_so_far:.3f}  {score} {score_so_far:.1%}  {rate:.0f} images/s"
                progress(state.step, batches.per_epoch, note)
            if save:
                checkpoint.save_training(run.last, learner.tensors(), state)
                saved = started = time.perf_counter()
            if stop:
                raise Interrupted(
                    f"stopped in epoch {state.epoch + 1} of {epochs}; everything learnt so far is saved",
                    f"nanocv train --resume {run.path}",
                )


def _count(
    losses: list[tuple[torch.Tensor, torch.Tensor, int]], state: TrainingState, run: RunDirectory, learner: Learner
) -> None:
    """Adds recent losses to the epoch's sums and empties the list; a loss that is not a number ends the training."""
    for loss, hits, count in losses:
        value = loss.item()
        if not math.isfinite(value):
            raise _diverged("loss", value, state, run, learner)
        state.loss_sum += value * count
        state.hits += float(hits.item())
        state.seen += count
    losses.clear()


def _diverged(name: str, value: float, state: TrainingState, run: RunDirectory, learner: Learner) -> TrainingError:
    rate = learner.config.train.learning_rate
    return TrainingError(
        f"the {name} became {value} in epoch {state.epoch + 1}; {run.last} keeps the last good state",
        f"lower the rate (--set train.learning_rate={rate / 10:g}), clip gradients "
        "(--set train.gradient_clip=1) or use --set train.precision=fp32",
    )


def _close_epoch(
    learner: Learner,
    judging: Pictures,
    state: TrainingState,
    batches: Batches,
    run: RunDirectory,
    dataset: Dataset[Any],
    log: DvcLog,
    display: Display,
) -> None:
    """Validates, keeps the best weights, saves the state and tells of the epoch."""
    task, config = learner.task, learner.config
    network = learner.judged()
    answer = torch_answer(
        task, task.deployable(network, config.model).to(learner.device).eval(), learner.device, learner.precision
    )
    metrics = evaluate(task, answer, judging.images, judging.targets, dataset.classes).compute()
    if not math.isfinite(metrics["loss"]):
        raise _diverged("val loss", metrics["loss"], state, run, learner)
    value = metrics[task.best_metric]
    row = {
        "epoch": state.epoch + 1,
        "train_loss": state.loss_sum / state.seen,
        "train_score": state.hits / state.seen,
        "val_loss": metrics["loss"],
        "val_score": value,
        "learning_rate": learner.optimiser.param_groups[0]["lr"],
        "images_per_second": (state.epoch + 1) * batches.per_epoch * batches.batch_size / state.seconds,
        "seconds": state.seconds,
        "is_best": value > state.best,
    }
    if row["is_best"]:
        state.best = value
        checkpoint.save_weights(run.best, network.state_dict(), make_card(config, dataset, metrics, "val"))
    state.history.append(row)
    state.epoch, state.step, state.loss_sum, state.hits, state.seen = state.epoch + 1, 0, 0.0, 0.0, 0
    checkpoint.save_training(run.last, learner.tensors(), state)
    log.add(row)
    display.say(epoch_line(row, config.train.epochs, task.best_metric))


def _restore(run: RunDirectory, learner: Learner, dataset: Dataset[Any]) -> TrainingState:
    """Continues from the last checkpoint where there is one, else saves the state before the first step."""
    fingerprint = dataset.fingerprint()
    if not run.last.is_file():
        return TrainingState(fingerprint=fingerprint)
    groups, state = checkpoint.load_training(run.last)
    if state.fingerprint != fingerprint:
        raise RequestError(
            f"data set {dataset.name} has changed since {run.path} began",
            "start a new run, or put the set back as it was",
        )
    learner.restore(groups)
    return state


def _finish(
    run: RunDirectory,
    task: Task,
    config: RunConfig,
    dataset: Dataset[Any],
    cache: Path,
    device: torch.device,
    state: TrainingState,
    log: DvcLog,
    batches: Batches,
    display: Display,
) -> Trained:
    """Measures the best weights on the held-out split at full precision, writes them into the card, draws pictures."""
    network, model, _ = checkpoint.load_network(run.best)
    split = dataset.held_out
    pictures = load_split(dataset, split, task, cache, model.input_size, model.resize, display)
    answer = torch_answer(task, task.deployable(network, model).to(device).eval(), device)
    with display.bar(f"measuring {split}") as progress:
        evaluator = evaluate(task, answer, pictures.images, pictures.targets, dataset.classes, progress=progress)
    metrics = evaluator.compute()
    checkpoint.save_weights(run.best, network.state_dict(), make_card(config, dataset, metrics, split))
    draw_curves(state.history, task.best_metric, run.curves)
    evaluator.draw(run.path)
    log.finish(metrics)
    learnt = state.epoch * batches.per_epoch * batches.batch_size
    return Trained(state.epoch, state.seconds, learnt / state.seconds, metrics, split)


def make_card(config: RunConfig, dataset: Dataset[Any], metrics: Metrics, split: str) -> ModelCard:
    """The card of weights trained under `config` on `dataset` and measured on `split`."""
    sections = config.model_dump(mode="json", include={"data", "model", "train"})
    return ModelCard(
        name=config.model.name,
        task=config.model.task,
        classes=dataset.classes,
        input_size=config.model.input_size,
        resize=config.model.resize,
        data=dataset.name,
        config=sections,
        config_hash=config_hash(config),
        metrics=metrics,
        split=split,
        version=__version__,
    )
