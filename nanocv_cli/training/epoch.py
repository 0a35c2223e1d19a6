"""One epoch of learning: steps, sums, a save now and then, a stop where the user wants one."""

import math
import time
from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from nanocv_cli.data.batches import Batches
from nanocv_cli.errors import TrainingError
from nanocv_cli.interrupts import Interrupts
from nanocv_cli.training.context import TrainContext
from nanocv_cli.training.feed import fed
from nanocv_cli.training.learner import Learner
from nanocv_cli.training.saves import save_state
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
    readings: deque[_Reading] = deque()
    saved = started = time.perf_counter()
    timed = state.step  # as far as `state.seconds` goes
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
            is_last = state.step == per_epoch
            if stop or is_last or len(recent) == STEPS_BETWEEN_CHECKS:
                readings.append(_Reading(recent))
                recent = []
                is_saved = (
                    group.sums(group.is_main and (stop or time.perf_counter() - saved > SECONDS_BETWEEN_SAVES))[0] > 0
                )
                # A GPU has not come to the newest of these steps yet: they are read at the next check.
                while readings and (is_saved or is_last or readings[0].is_there or len(readings) > 1):
                    _add_up(context, readings.popleft(), state)
                now = time.perf_counter()
                state.seconds, started, timed = state.seconds + now - started, now, state.step
                if is_saved:
                    if group.is_main:
                        save_state(context.run, learner.tensors(), state)
                    saved = started = time.perf_counter()
            progress(state.step, per_epoch, _note(learner, batches, state, timed) if state.seen else "")
            if stop:
                raise interrupted(context, f"in epoch {state.epoch + 1}")


def interrupted(context: TrainContext, where: str) -> Interrupted:
    """The error of a training that was stopped with its state saved, `in epoch 3` or `after` it."""
    return Interrupted(
        f"stopped {where} of {context.config.train.epochs}; everything learnt so far is saved",
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


class _Reading:
    """Losses and live metrics of some steps, on their way from the device, which does not stop for them."""

    def __init__(self, results: Sequence[StepResult]) -> None:
        losses, metrics, self._counts = zip(*results, strict=True)
        is_gpu = losses[0].is_cuda
        self._losses, self._metrics = (
            torch.stack(scalars).to("cpu", non_blocking=is_gpu) for scalars in (losses, metrics)
        )
        self._arrived = torch.cuda.current_stream(losses[0].device).record_event() if is_gpu else None

    @property
    def is_there(self) -> bool:
        """Whether no GPU has to be waited for; the same at any speed, for all processes must come to the same."""
        return self._arrived is None

    def sums(self) -> tuple[float, float, int]:
        """Sums of the losses, each times its images, of the live metrics and of the images."""
        if self._arrived:
            self._arrived.synchronize()
        weighted = (loss * count for loss, count in zip(self._losses.tolist(), self._counts, strict=True))
        return sum(weighted), sum(map(float, self._metrics.tolist())), sum(self._counts)


def _add_up(context: TrainContext, reading: _Reading, state: TrainingState) -> None:
    """Adds the results of steps, of all processes, to the epoch's sums."""
    loss_sum, train_metric, seen = context.group.sums(*reading.sums())
    if not math.isfinite(loss_sum):
        raise diverged(context, "loss", loss_sum, state.epoch)
    state.loss_sum, state.hits, state.seen = (
        state.loss_sum + loss_sum,
        state.hits + train_metric,
        state.seen + int(seen),
    )


def _note(learner: Learner, batches: Batches, state: TrainingState, timed: int) -> str:
    """What the bar tells: loss and metric as far as they are added up, and the rate of the steps that are timed."""
    rate = batches.images_seen(state.epoch, timed) / max(state.seconds, 1e-9)
    score = f"{learner.task.train_metric_name} {learner.task.best.shown(state.hits / state.seen)}"
    return f"loss {state.loss_sum / state.seen:.3f}  {score}  {rate:.0f} images/s"
