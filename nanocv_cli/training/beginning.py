"""What a training begins with: a network with what it starts from, its learner, and the state of a run that goes on."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nanocv_cli.errors import ModelError, RequestError
from nanocv_cli.evaluation.evaluate import Split, torch_answer
from nanocv_cli.models.device import pick_precision
from nanocv_cli.models.quantised import choose_ranges, quantise_layers
from nanocv_cli.models.registry import build_model
from nanocv_cli.training.context import TrainContext
from nanocv_cli.training.history import write_history
from nanocv_cli.training.learner import Learner
from nanocv_cli.training.optimiser import freeze
from nanocv_cli.training.saves import mend_best, newest_state, save_state
from nanocv_cli.training.start import Start, read_start, take, write_start
from nanocv_cli.training.state import TrainingState
from nanocv_cli.training.sync_batchnorm import synchronise_norms
from nanocv_cli.untrusted import first_line

RANGES_CHOSEN_BY = 256  # training images


def begin(context: TrainContext) -> tuple[Learner, TrainingState]:
    """The learner and the state as the run's last save that is whole has them; a new run's as they start.

    Raises:
        RequestError: the set has changed since the run began; nothing of what it shall start from fits.
        ModelError: a file is damaged, or does not fit the network of its run.
        ConfigError: the network cannot be built of its config.
    """
    config, run, group = context.config, context.run, context.group
    resumed: bool = group.from_leader(run.has_state)
    torch.manual_seed(config.train.seed)
    # A resumed run loads its own weights, one that starts from a checkpoint takes those: torchvision's are not needed.
    is_replaced = resumed or config.train.start is not None
    source = config.model.model_copy(update={"pretrained": False}) if is_replaced else config.model
    network = build_model(source, len(context.dataset.classes)).to(context.device)
    network = network.to(memory_format=torch.channels_last)
    if config.train.sync_batchnorm and group.world > 1:
        network = synchronise_norms(network, context.device)
    start = _start(context, network, resumed)
    if config.train.quantise:
        quantise_layers(network)
    frozen = freeze(network, config.train.freeze)
    precision = pick_precision(config.train.precision, context.device)
    taken = start.names if start else ()
    learner = Learner(
        network, context.task, config, context.device, precision, group, frozenset(taken), frozen, context.display.say
    )
    fingerprint = context.dataset.fingerprint()
    if resumed:
        return learner, _restore(context, learner, fingerprint)
    state = TrainingState(fingerprint=fingerprint)
    if start and group.is_main:
        # From here on the run can be resumed without the checkpoint.
        write_start(run.start, start)
        save_state(run, learner.tensors(), state)
    return learner, state


def choose_input_ranges(context: TrainContext, learner: Learner, learning: Split) -> None:
    """Chooses what int8 can tell of each layer's inputs by the middle of training images, spread evenly over them."""
    task, model, size = context.task, context.config.model, context.config.train.batch_size
    learns = [module for module in learner.network.modules() if module.training]  # what is frozen does not
    answer = torch_answer(task, task.export_model(learner.network, model).to(context.device).eval(), context.device)
    places = np.unique(np.linspace(0, len(learning.images) - 1, RANGES_CHOSEN_BY).round().astype(int))
    batches = (places[first : first + size] for first in range(0, len(places), size))

    def pass_through(batch: NDArray[np.int64]) -> None:
        images = learning.images[batch]
        margin = (images.shape[1] - model.input_size) // 2
        middle = slice(margin, margin + model.input_size)
        answer(
            task.graph_inputs(np.ascontiguousarray(images[:, middle, middle]), learning.targets[batch], int(batch[0]))
        )

    choose_ranges(learner.network, pass_through, batches)
    for module in learns:
        module.training = True


def _start(context: TrainContext, network: nn.Module, resumed: bool) -> Start | None:
    """What a network starts from, taken over by a new run, remembered by a resumed one."""
    reference, checkpoint = context.config.train.start, context.checkpoint
    if reference is None:
        return None
    if resumed:
        return read_start(context.run.start)
    assert checkpoint is not None, "a new run has found what it starts from"
    start = take(checkpoint, reference, network, context.config.model, context.dataset.classes)
    for line in start.lines(context.config.train.taken_rate):
        context.display.say(line)
    return start


def _restore(context: TrainContext, learner: Learner, fingerprint: str) -> TrainingState:
    """Continues from the last checkpoint that is whole; what else the run holds is made to fit it."""
    run, group, say = context.run, context.group, context.display.say
    groups, state = group.leader_first(lambda: newest_state(run, say))
    if state.fingerprint != fingerprint:
        raise RequestError(
            f"data set {context.dataset.name} has changed since {context.run.path} began",
            "start a new run, or put the set back as it was",
        )
    try:
        learner.restore(groups)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{context.run.last} does not fit the network of its run: {first_line(error)}", "start a new run"
        ) from error
    if state.history and group.is_main:
        mend_best(run, say)
        write_history(state.history, context.task.train_metric_name, run.history)
    return state
