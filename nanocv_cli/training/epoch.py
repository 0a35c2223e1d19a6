"""One epoch of learning: steps, sums, a save now and then, a stop where the user wants one."""

import math
import time

from torch import Tensor

from nanocv_cli.data.batches import Batches
from nanocv_cli.errors import TrainingError
from nanocv_cli.training import checkpoint
from nanocv_cli.training.checkpoint import TrainingState
from nanocv_cli.training.interrupts import Interrupts
from nanocv_cli.training.learner import Learner
from nanocv_cli.training.session import Session

SECONDS_BETWEEN_SAVES = 300.0
STEPS_BETWEEN_CHECKS = 20

StepResult = tuple[Tensor, Tensor, int]


class Interrupted(TrainingError):
    """The user stopped the training; its state is saved."""

    exit_code = 130


def learn_epoch(
    session: Session, learner: Learner, batches: Batches, state: TrainingState, interrupts: Interrupts
) -> None:
    """Learns the rest of the epoch that `state` stands in, saving on a wish to stop and every few minutes.

    Raises:
        Interrupted: the user wished to stop; everything learnt is saved.
        TrainingError: the loss is no number any more.
    """
    team, epochs = session.team, session.config.train.epochs
    recent: list[StepResult] = []
    saved = started = time.perf_counter()
    with session.display.bar(f"epoch {state.epoch + 1}/{epochs}") as progress:
        for images, targets in batches.epoch(state.epoch, state.step):
            loss, hits = learner.learn(images, targets, state.epoch, state.step, batches.per_epoch, team.rank)
            recent.append((loss, hits, len(images)))
            state.step += 1
            # All processes stop after the same step, whoever of them was asked to.
            stop = team.sums(interrupts.wanted)[0] > 0
            # Reading a loss waits for the device, so it is done once in a while.
            if stop or len(recent) == STEPS_BETWEEN_CHECKS or state.step == batches.per_epoch:
                _add_up(session, recent, state)
                now = time.perf_counter()
                state.seconds, started = state.seconds + now - started, now
                if team.leads and (stop or now - saved > SECONDS_BETWEEN_SAVES):
                    checkpoint.save_training(session.run.last, learner.tensors(), state)
                    saved = started = time.perf_counter()
            progress(state.step, batches.per_epoch, _note(learner, batches, state) if state.seen else "")
            if stop:
                raise Interrupted(
                    f"stopped in epoch {state.epoch + 1} of {epochs}; everything learnt so far is saved",
                    f"nanocv train --resume {session.run.path}",
                )


def diverged(session: Session, name: str, value: float, epoch: int) -> TrainingError:
    """The error of a loss that is no number, with advice."""
    rate = session.config.train.learning_rate
    kept = f"{session.run.last} keeps the last good state" if session.run.last.exists() else "nothing was learnt yet"
    return TrainingError(
        f"the {name} became {value} in epoch {epoch + 1}; {kept}",
        f"lower the rate (--set train.learning_rate={rate / 10:g}), clip gradients "
        "(--set train.gradient_clip=1) or use --set train.precision=fp32",
    )


def _add_up(session: Session, recent: list[StepResult], state: TrainingState) -> None:
    """Adds recent losses of all processes to the epoch's sums and empties the list."""
    losses = [(loss.item() * count, float(hits.item()), count) for loss, hits, count in recent]
    loss_sum, hits, seen = session.team.sums(*(sum(column) for column in zip(*losses, strict=True)))
    if not math.isfinite(loss_sum):
        raise diverged(session, "loss", loss_sum, state.epoch)
    state.loss_sum, state.hits, state.seen = state.loss_sum + loss_sum, state.hits + hits, state.seen + int(seen)
    recent.clear()


def _note(learner: Learner, batches: Batches, state: TrainingState) -> str:
    rate = batches.learnt(state.epoch, state.step) / max(state.seconds, 1e-9)
    score = f"{learner.task.live_score} {state.hits / state.seen:.1%}"
    return f"loss {state.loss_sum / state.seen:.3f}  {score}  {rate:.0f} images/s"
