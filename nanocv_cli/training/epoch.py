"""One epoch of learning: steps, sums, a save now and then, a stop where the user wants one."""

import math
import time

from torch import Tensor

from nanocv_cli.data.batches import Batches
from nanocv_cli.errors import TrainingError
from nanocv_cli.interrupts import Interrupts
from nanocv_cli.training.context import TrainContext
from nanocv_cli.training.feed import fed
from nanocv_cli.training.learner import Learner, save_training
from nanocv_cli.training.state import TrainingState

SECONDS_BETWEEN_SAVES = 300.0
STEPS_BETWEEN_CHECKS = 20

StepResult = tuple[Tensor, Tensor, int]


class Interrupted(TrainingError):
    """The user stopped the training; its state is saved."""

    exit_code = 130


def learn_epoch(
    context: TrainContext, learner: Learner, batches: Batches, state: TrainingState, interrupts: Interrupts
) -> None:
    """Learns the rest of the epoch that `state` stands in, saving on a request to stop and every few minutes.

    Raises:
        Interrupted: the user asked to stop; the state is saved.
        TrainingError: the loss is no number any more.
    """
    group, epochs = context.group, context.config.train.epochs
    per_epoch, share = batches.per_epoch, batches.share
    recent: list[StepResult] = []
    saved = started = time.perf_counter()
    source = batches.epoch(state.epoch, state.step)
    with (
        context.display.bar(f"epoch {state.epoch + 1}/{epochs}") as progress,
        fed(source, context.device, context.task.targets_on_cpu) as arriving,
    ):
        for images, targets in arriving:
            loss, train_metric = learner.learn(images, targets, state.epoch, state.step, per_epoch, share)
            recent.append((loss, train_metric, share.count))
            state.step += 1
            # All processes stop after the same step, whoever of them was asked to.
            stop = group.sums(interrupts.wanted)[0] > 0
            # Reading a loss waits for the device, so it is done once in a while.
            if stop or len(recent) == STEPS_BETWEEN_CHECKS or state.step == per_epoch:
                _add_up(context, recent, state)
                now = time.perf_counter()
                state.seconds, started = state.seconds + now - started, now
                if group.is_main and (stop or now - saved > SECONDS_BETWEEN_SAVES):
                    save_training(context.run.last, learner.tensors(), state)
                    saved = started = time.perf_counter()
            progress(state.step, per_epoch, _note(learner, batches, state) if state.seen else "")
            if stop:
                raise Interrupted(
                    f"stopped in epoch {state.epoch + 1} of {epochs}; everything learnt so far is saved",
                    f"nanocv train --resume {context.run.path}",
                )


def diverged(context: TrainContext, name: str, value: float, epoch: int) -> TrainingError:
    """The error of a loss that is no number, with advice."""
    rate = context.config.train.learning_rate
    kept = f"{context.run.last} keeps the last good state" if context.run.last.exists() else "nothing was learnt yet"
    return TrainingError(
        f"the {name} became {value} in epoch {epoch + 1}; {kept}",
        f"lower the rate (--set train.learning_rate={rate / 10:g}), clip gradients "
        "(--set train.gradient_clip=1) or use --set train.precision=fp32",
    )


def _add_up(context: TrainContext, recent: list[StepResult], state: TrainingState) -> None:
    """Adds recent losses of all processes to the epoch's sums and empties the list."""
    losses = [(loss.item() * count, float(train_metric.item()), count) for loss, train_metric, count in recent]
    loss_sum, train_metric, seen = context.group.sums(*(sum(column) for column in zip(*losses, strict=True)))
    if not math.isfinite(loss_sum):
        raise diverged(context, "loss", loss_sum, state.epoch)
    state.loss_sum, state.hits, state.seen = (
        state.loss_sum + loss_sum,
        state.hits + train_metric,
        state.seen + int(seen),
    )
    recent.clear()


def _note(learner: Learner, batches: Batches, state: TrainingState) -> str:
    rate = batches.images_seen(state.epoch, state.step) / max(state.seconds, 1e-9)
    score = f"{learner.task.train_metric_name} {learner.task.best.shown(state.hits / state.seen)}"
    return f"loss {state.loss_sum / state.seen:.3f}  {score}  {rate:.0f} images/s"
