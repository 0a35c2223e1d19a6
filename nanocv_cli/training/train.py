"""The spine of `nanocv train`: cached images, a learner, epochs, the best weights and their final figures."""

import math
import time
from dataclasses import dataclass
from pathlib import Path

from nanocv_cli.data.balance import image_weights
from nanocv_cli.data.batches import Batches
from nanocv_cli.errors import RequestError
from nanocv_cli.evaluation.evaluate import Split, evaluate, torch_answer
from nanocv_cli.interrupts import watch_interrupts
from nanocv_cli.machine import keep_freed_memory
from nanocv_cli.models.checkpoint import load_network, save_weights
from nanocv_cli.tasks.evaluator import EvalContext, Evaluator, Metrics
from nanocv_cli.training.beginning import begin, choose_input_ranges
from nanocv_cli.training.context import TrainContext
from nanocv_cli.training.epoch import diverged, interrupted, learn_epoch
from nanocv_cli.training.history import draw_curves, epoch_line, write_history
from nanocv_cli.training.learner import Learner
from nanocv_cli.training.optimiser import learning_rate
from nanocv_cli.training.recorders.recorders import Recorders
from nanocv_cli.training.recorders.tracker import Row
from nanocv_cli.training.saves import expect_same_images, save_best, save_state
from nanocv_cli.training.state import TrainingState

# Training images are cached a little larger than the network reads them, so that crops stay sharp.
TRAIN_MARGIN = 8 / 7


@dataclass(frozen=True)
class Trained:
    """What a training gives.

    Attributes:
        epochs: trained for.
        seconds: spent on training steps, interruptions left out.
        images_per_second: over all training steps and processes.
        metrics: of the best weights on the held-out split.
        split: that split.
        images: what was drawn of them.
    """

    epochs: int
    seconds: float
    images_per_second: float
    metrics: Metrics
    split: str
    images: tuple[Path, ...]


def train(context: TrainContext, recorders: Recorders) -> Trained | None:
    """Trains to the end, from wherever the run folder's last checkpoint stands.

    Args:
        context: the training.
        recorders: where each evaluated epoch is told of, and what is reached.

    Returns:
        what was reached; None on the processes that do not lead.

    Raises:
        Interrupted: the user stopped it; the state is saved.
        TrainingError: the loss became NaN or infinite.
        RequestError: the run to resume was trained on other data; there are fewer images than processes.
        StorageError: a file could not be written; what was saved before stays.
    """
    config, group = context.config, context.group
    keep_freed_memory()
    # The network comes first: a config it cannot serve is answered before any image is decoded.
    learner, state = begin(context)
    learning = context.images("train", round(config.model.input_size * TRAIN_MARGIN))
    validation = context.images("val", config.model.input_size)
    # Before anything is learnt: a set that vanishes meanwhile is not needed again.
    held_out = context.images(context.dataset.held_out, config.model.input_size)
    eval_context = EvalContext(
        context.images("train", config.model.input_size).images if context.task.wants_train_images else None
    )
    expect_same_images(context.run, state, {"train": len(learning.images), "val": len(validation.images)})
    if len(learning.images) < group.world:
        raise RequestError(
            f"{len(learning.images)} training images are too few for {group.world} processes",
            "train with fewer processes",
        )
    is_whole = context.task.mixes(config.train)
    batches = Batches(
        learning.images,
        learning.targets,
        config.train.batch_size,
        config.train.seed,
        group.rank,
        group.world,
        is_whole,
        image_weights(learning.labels, config.train.balance),
    )
    recorders.begin(state.history)
    _introduce(context, learner, learning, validation)
    if config.train.quantise and (state.epoch, state.step) == (0, 0):
        choose_input_ranges(context, learner, learning)
    with watch_interrupts() as interrupts:
        while state.epoch < config.train.epochs:
            learn_epoch(context, learner, batches, state, interrupts)
            last = state.epoch + 1 == config.train.epochs
            evaluator = None
            if last or (state.epoch + 1) % config.train.judge_every == 0:
                evaluator = _validate(context, learner, validation, batches, state)
            state.begin_next_epoch()
            if group.is_main:
                save_state(context.run, learner.tensors(), state)
            if evaluator:
                # Only once the epoch cannot be lost any more: what is told of it can fail.
                _tell(context, evaluator, state.history, recorders)
            if group.sums(interrupts.wanted)[0] > 0:
                raise interrupted(context, f"after epoch {state.epoch}")
    return _finish(context, learner, held_out, eval_context, batches, state, recorders)


def _introduce(context: TrainContext, learner: Learner, learning: Split, validation: Split) -> None:
    parameters = sum(p.numel() for p in learner.network.parameters())
    frozen = sum(p.numel() for p in learner.network.parameters() if not p.requires_grad)
    kept = f", {frozen:,} of them frozen" if context.config.train.freeze else ""
    rounded = f" for {context.config.train.quantise}" if context.config.train.quantise else ""
    processes = f" x {context.group.world} processes" if context.group.world > 1 else ""
    context.display.say(
        f"{context.config.model.name} ({parameters:,} parameters{kept}) on {context.dataset.name}: "
        f"{len(learning.images)} train, {len(validation.images)} val images; "
        f"{context.device.type} {learner.precision}{rounded}{processes}; {context.run.path}"
    )


def _validate(
    context: TrainContext,
    learner: Learner,
    validation: Split,
    batches: Batches,
    state: TrainingState,
) -> Evaluator | None:
    """Validates, each process a part of the split; the leader keeps the best weights, and has the evaluator."""
    task, network = context.task, context.group.take_leaders(learner.evaluated())
    export_model = task.export_model(network, context.config.model).to(context.device).eval()
    answer = torch_answer(task, export_model, context.device, learner.precision)
    part = (context.group.rank, context.group.world)
    evaluator = evaluate(task, answer, validation, context.dataset.classes, context.config.model, part=part)
    if not _merged(evaluator, context):
        return None
    metrics = evaluator.compute()
    loss = metrics.get("loss")
    if loss is not None and not math.isfinite(loss):
        raise diverged(context, "val loss", loss, state.epoch)
    score = metrics[task.best.name]
    train, taken = context.config.train, (state.epoch + 1) * batches.per_epoch
    row = {
        "epoch": state.epoch + 1,
        "train_loss": state.loss_sum / state.seen,
        "train_score": state.hits / state.seen,
        "val_loss": loss,
        "val_score": score,
        "learning_rate": learning_rate(train, taken - 1, train.epochs * batches.per_epoch),
        "images_per_second": batches.images_seen(state.epoch + 1) / state.seconds,
        "seconds": state.seconds,
        "time": time.time(),
        "is_best": task.best.better(score, state.best),
    }
    if row["is_best"]:
        state.best = score
        save_best(context.run, network.state_dict(), context.card(metrics, "val"))
    state.history.append(row)
    return evaluator


def _tell(context: TrainContext, evaluator: Evaluator, history: list[Row], recorders: Recorders) -> None:
    """Tells of the epoch that was evaluated last; what is not told is made up for when the run is resumed."""
    row, live = history[-1], context.task.train_metric_name
    evaluator.snapshot(context.run.path, row["epoch"])
    write_history(history, live, context.run.history)
    recorders.add_epoch(row)
    context.display.say(epoch_line(row, context.config.train.epochs, live, context.task.best))


def _merged(evaluator: Evaluator, context: TrainContext) -> bool:
    """Brings the parts of an evaluation together on the leader; whether this process is it."""
    for rank, state in enumerate(context.group.on_leader(evaluator.state())):
        if rank != context.group.rank:
            evaluator.absorb(state)
    return context.group.is_main


def _finish(
    context: TrainContext,
    learner: Learner,
    held_out: Split,
    eval_context: EvalContext,
    batches: Batches,
    state: TrainingState,
    recorders: Recorders,
) -> Trained | None:
    """Measures the best weights on the held-out split at full precision, writes them into the card, draws images."""
    task, dataset, run, group = context.task, context.dataset, context.run, context.group
    # The leader alone may have the run's folder.
    network, model = load_network(run.best)[:2] if group.is_main else (learner.evaluated(), context.config.model)
    network = group.take_leaders(network.to(context.device)).eval()
    split = dataset.held_out
    answer = torch_answer(task, task.export_model(network, model).to(context.device).eval(), context.device)
    with context.display.bar(f"measuring {split}") as progress:
        part = (group.rank, group.world)
        evaluator = evaluate(task, answer, held_out, dataset.classes, model, eval_context, progress=progress, part=part)
    if not _merged(evaluator, context):
        return None
    metrics = evaluator.compute()
    save_weights(run.best, network.state_dict(), context.card(metrics, split))
    draw_curves(state.history, task.train_metric_name, task.best, run.curves)
    images = (run.curves, *evaluator.draw(run.path, held_out.images))
    recorders.add_results(state.epoch, metrics, images)
    speed = batches.images_seen(state.epoch) / state.seconds
    return Trained(state.epoch, state.seconds, speed, metrics, split, images)
