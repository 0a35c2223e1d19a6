"""The spine of `nanocv train`: cached pictures, a learner, epochs, the best weights and their final figures."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from nanocv_cli.data.batches import Batches
from nanocv_cli.display import epoch_line
from nanocv_cli.errors import ModelError, RequestError
from nanocv_cli.models.registry import build_model
from nanocv_cli.tasks.base import Means, Metrics
from nanocv_cli.training import checkpoint
from nanocv_cli.training.checkpoint import TrainingState
from nanocv_cli.training.device import pick_precision
from nanocv_cli.training.epoch import diverged, learn_epoch
from nanocv_cli.training.evaluation import evaluate, torch_answer
from nanocv_cli.training.history import DvcLog, draw_curves
from nanocv_cli.training.interrupts import watch_interrupts
from nanocv_cli.training.learner import Learner
from nanocv_cli.training.memory import keep_freed_memory
from nanocv_cli.training.session import Pictures, Session
from nanocv_cli.untrusted import first_line

# Training pictures are cached a little larger than the network reads them, so that crops stay sharp.
TRAIN_MARGIN = 8 / 7


@dataclass(frozen=True)
class Trained:
    """What a training gives.

    Attributes:
        epochs: learnt.
        seconds: spent on training steps, interruptions left out.
        images_per_second: over all training steps and processes.
        metrics: of the best weights on the held-out split.
        split: that split.
        pictures: what was drawn of them.
    """

    epochs: int
    seconds: float
    images_per_second: float
    metrics: Metrics
    split: str
    pictures: tuple[Path, ...]


def train(session: Session) -> Trained | None:
    """Trains to the end, from wherever the run folder's last checkpoint stands.

    Returns:
        what was reached; None on the processes that do not lead.

    Raises:
        Interrupted: the user stopped it; the state is saved.
        TrainingError: the loss became NaN or infinite.
        RequestError: the run to resume was trained on other data.
        StorageError: a file could not be written; what was saved before stays.
    """
    config, team = session.config, session.team
    keep_freed_memory()
    # The network comes first: a config it cannot serve is answered before any picture is decoded.
    learner = _build_learner(session)
    learning = session.pictures("train", round(config.model.input_size * TRAIN_MARGIN))
    judging = session.pictures("val", config.model.input_size)
    batches = Batches(
        learning.images, learning.targets, config.train.batch_size, config.train.seed, team.rank, team.world
    )
    state = _restore(session, learner)
    log = DvcLog(session.run.dvclive, state.history) if team.leads else None
    _introduce(session, learner, learning, judging)
    with watch_interrupts() as interrupts:
        while state.epoch < config.train.epochs:
            learn_epoch(session, learner, batches, state, interrupts)
            last = state.epoch + 1 == config.train.epochs
            if log and (last or (state.epoch + 1) % config.train.judge_every == 0):
                _judge(session, learner, judging, batches, state, log)
            state.begin_next_epoch()
            if team.leads:
                checkpoint.save_training(session.run.last, learner.tensors(), state)
    held_out = session.pictures(session.dataset.held_out, config.model.input_size)
    return _finish(session, held_out, batches, state, log) if log else None


def _build_learner(session: Session) -> Learner:
    config = session.config
    torch.manual_seed(config.train.seed)
    # A resumed run loads its own weights: torchvision's need not be at hand again.
    resumed = session.run.last.is_file()
    source = config.model.model_copy(update={"pretrained": False}) if resumed else config.model
    network = build_model(source, len(session.dataset.classes)).to(session.device)
    network = network.to(memory_format=torch.channels_last)
    precision = pick_precision(config.train.precision, session.device)
    return Learner(network, session.task, config, session.device, precision, session.team.wrap(network))


def _restore(session: Session, learner: Learner) -> TrainingState:
    """Continues from the last checkpoint where there is one."""
    fingerprint = session.dataset.fingerprint()
    if not session.run.last.is_file():
        return TrainingState(fingerprint=fingerprint)
    groups, state = checkpoint.load_training(session.run.last)
    if state.fingerprint != fingerprint:
        raise RequestError(
            f"data set {session.dataset.name} has changed since {session.run.path} began",
            "start a new run, or put the set back as it was",
        )
    try:
        learner.restore(groups)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{session.run.last} does not fit the network of its run: {first_line(error)}", "start a new run"
        ) from error
    return state


def _introduce(session: Session, learner: Learner, learning: Pictures, judging: Pictures) -> None:
    parameters = sum(p.numel() for p in learner.network.parameters())
    processes = f" x {session.team.world} processes" if session.team.world > 1 else ""
    session.display.say(
        f"{session.config.model.name} ({parameters:,} parameters) on {session.dataset.name}: "
        f"{len(learning.images)} train, {len(judging.images)} val pictures; "
        f"{session.device.type} {learner.precision}{processes}; {session.run.path}"
    )


def _judge(
    session: Session, learner: Learner, judging: Pictures, batches: Batches, state: TrainingState, log: DvcLog
) -> None:
    """Validates, keeps the best weights, and tells of the epoch."""
    task, network = session.task, learner.judged()
    deployable = task.deployable(network, session.config.model).to(session.device).eval()
    answer = torch_answer(task, deployable, session.device, learner.precision)
    evaluator = evaluate(task, answer, judging, session.dataset.classes, session.config.model)
    metrics = evaluator.compute()
    evaluator.snapshot(session.run.path, state.epoch + 1)
    loss = metrics.get("loss")
    if loss is not None and not math.isfinite(loss):
        raise diverged(session, "val loss", loss, state.epoch)
    score = metrics[task.best.name]
    row = {
        "epoch": state.epoch + 1,
        "train_loss": state.loss_sum / state.seen,
        "train_score": state.hits / state.seen,
        "val_loss": loss,
        "val_score": score,
        "learning_rate": learner.optimiser.param_groups[0]["lr"],
        "images_per_second": batches.learnt(state.epoch + 1) / state.seconds,
        "seconds": state.seconds,
        "is_best": task.best.better(score, state.best),
    }
    if row["is_best"]:
        state.best = score
        checkpoint.save_weights(session.run.best, network.state_dict(), session.card(metrics, "val"))
    state.history.append(row)
    log.add(row)
    session.display.say(epoch_line(row, session.config.train.epochs, task.live_score, task.best.name))


def _finish(session: Session, held_out: Pictures, batches: Batches, state: TrainingState, log: DvcLog) -> Trained:
    """Measures the best weights on the held-out split at full precision, writes them into the card, draws pictures."""
    task, dataset, run = session.task, session.dataset, session.run
    network, model, _ = checkpoint.load_network(run.best)
    split = dataset.held_out
    answer = torch_answer(task, task.deployable(network, model).to(session.device).eval(), session.device)
    means = Means(session.pictures("train", model.input_size).images if task.wants_learnt else None)
    with session.display.bar(f"measuring {split}") as progress:
        evaluator = evaluate(task, answer, held_out, dataset.classes, model, means, progress=progress)
    metrics = evaluator.compute()
    checkpoint.save_weights(run.best, network.state_dict(), session.card(metrics, split))
    draw_curves(state.history, task.live_score, task.best, run.curves)
    drawn = evaluator.draw(run.path, held_out.images)
    log.finish(metrics)
    speed = batches.learnt(state.epoch) / state.seconds
    return Trained(state.epoch, state.seconds, speed, metrics, split, (run.curves, *drawn))
