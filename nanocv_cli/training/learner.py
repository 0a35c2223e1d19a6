"""The network that learns, with everything that changes when it takes a step, and the file that keeps it."""

import copy
import json
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nanocv_cli.config.schema import RunConfig
from nanocv_cli.data.batches import Share, generator_for
from nanocv_cli.errors import OutOfMemoryError, TrainingError, is_shortage
from nanocv_cli.models.checkpoint import load_tensors, save_tensors
from nanocv_cli.models.device import autocast, computing_type
from nanocv_cli.models.quantised import input_ranges
from nanocv_cli.output import say
from nanocv_cli.tasks.base import StepSettings, Task
from nanocv_cli.training.distributed import ALONE, ProcessGroup, is_lost_process
from nanocv_cli.training.optimiser import (
    MovingAverage,
    build_optimiser,
    image_size,
    optimiser_tensors,
    restore_optimiser,
    set_rates,
)
from nanocv_cli.training.replay import Replayed
from nanocv_cli.training.state import STATE_KEY, TrainingState, state_of
from nanocv_cli.untrusted import first_line

MICRO_BATCHES = "micro_batches"  # group of a saved state


class Learner:
    """A network, its optimiser and its moving average on one device.

    One step is a pure function of the state and of (seed, epoch, step), so a resumed run repeats it to the bit. It may
    be made in micro-batches (`train.accumulate`), whose gradients add up to those of the whole batch.

    Args:
        network: logits from normalised float [N,3,S,S].
        task: what is trained for.
        config: the run's config.
        device: where it learns.
        precision: fp32, bf16 or fp16 (resolved, not auto).
        group: the processes that learn together.
        taken: names of parameters that were taken over from elsewhere, and learn more slowly.
        frozen: modules of which nothing learns.
        say: is told, a line, where memory does not suffice.

    Attributes:
        accumulate: micro-batches of a step: `train.accumulate`, or more where memory did not suffice for so few.
        replayed: the network as CUDA graphs; None where it is launched step by step.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        config: RunConfig,
        device: torch.device,
        precision: str,
        group: ProcessGroup = ALONE,
        taken: Collection[str] = (),
        frozen: Sequence[nn.Module] = (),
        say: Callable[[str], None] = say,
    ) -> None:
        self.network = network
        self.task = task
        self.config = config
        self.device = device
        self.precision = precision
        self.accumulate = config.train.accumulate
        self.optimiser = build_optimiser(network, config.train, taken)
        self.average = MovingAverage(network, config.train.ema_decay) if config.train.ema_decay else None
        self._group = group
        self._trained = group.wrap(network).train()
        for module in frozen:
            module.eval()
        self._ranges = nn.ModuleList(input_ranges(network))
        # What a pass forward moves (statistics, ranges), and as it was before the step; a group repeats no step.
        is_repeated = group.world == 1
        learning = [module for module in network.modules() if module.training and is_repeated]
        self._moved = [buffer for module in learning for buffer in module.buffers(recurse=False)]
        self._unmoved = [buffer.clone() for buffer in self._moved]
        self._say = say
        self.replayed: Replayed | None = None
        is_wanted = device.type == "cuda" and config.train.cuda_graphs == "auto"
        if is_wanted and group.world == 1 and not self._ranges and task.has_fixed_shapes(network):
            self.replayed = Replayed(network, device, precision, say)
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self._evaluated = copy.deepcopy(network).eval()

    def learn(
        self, images: Tensor, targets: Tensor, epoch: int, step: int, per_epoch: int, share: Share | None = None
    ) -> tuple[Tensor, Tensor]:
        """One step on a batch.

        Args:
            images: uint8 [N,S,S,3] on the CPU or on the device: of this process's share of the batch, or of the whole
                batch where the task `mixes` them.
            targets: of them, [N,...], likewise.
            epoch: from 0.
            step: of the epoch, from 0.
            per_epoch: steps in an epoch.
            share: this process's; None: the whole batch.

        Returns:
            mean loss and number of right images of the share, scalars on the device.

        Raises:
            OutOfMemoryError: memory does not suffice for a single image, or for a group's micro-batches.
        """
        train = self.config.train
        share = share or Share(0, len(images), len(images))
        images = images.to(self.device, non_blocking=True)
        targets = targets if self.task.targets_on_cpu else targets.to(self.device, non_blocking=True)
        taken = epoch * per_epoch + step
        set_rates(self.optimiser, train, taken, train.epochs * per_epoch)
        loss, train_metric = self._within_memory(images, targets, epoch, step, share)
        if train.gradient_clip:
            self._scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.network.parameters(), train.gradient_clip)
        self._scaler.step(self.optimiser)
        self._scaler.update()
        # Each process has followed those of its own images: a resumed group could not tell.
        self._group.take_leaders(self._ranges)
        if self.average:
            self.average.update(self.network, taken)
        return loss, train_metric

    def _within_memory(
        self, images: Tensor, targets: Tensor, epoch: int, step: int, share: Share
    ) -> tuple[Tensor, Tensor]:
        """As `_gradients`, in as many more micro-batches as it takes to fit into memory."""
        _copy(self._moved, self._unmoved)
        while True:
            try:
                return self._gradients(images, targets, epoch, step, share)
            except (RuntimeError, MemoryError) as error:
                if not is_shortage(error):
                    raise
                shortage = first_line(error)
            # Outside of the handler: the exception has held on to what the attempt took.
            self._take_fewer(share, shortage)
            _copy(self._unmoved, self._moved)

    def _take_fewer(self, share: Share, shortage: str) -> None:
        """Halves the micro-batches after a step did not fit into memory.

        Raises:
            OutOfMemoryError: there is nothing to halve; or others of a group may have room, and do not know of it.
        """
        images = -(-share.count // min(self.accumulate, share.count))
        if images == 1:
            raise OutOfMemoryError(
                f"there is not enough memory to learn from one image at a time: {shortage}",
                "a smaller model or model.input_size, or a device with more memory; end what else uses it",
            )
        if self._group.world > 1:
            raise OutOfMemoryError(
                f"process {self._group.rank} has not enough memory for {images} images at a time: {shortage}",
                f"--set train.accumulate={2 * self.accumulate} keeps the batch; docs/machines.md says what else",
            )
        self.accumulate = 2 * min(self.accumulate, share.count)
        self.optimiser.zero_grad()
        self.replayed = None  # what it was captured with is memory too
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        fewer = -(-share.count // min(self.accumulate, share.count))
        self._say(
            f"note: memory does not suffice for {images} images at a time; each batch of {share.total} is made of "
            f"micro-batches of {fewer} from here on, with the same batch (train.accumulate={self.accumulate}); "
            "docs/machines.md says whether the result is the same too"
        )

    def _gradients(self, images: Tensor, targets: Tensor, epoch: int, step: int, share: Share) -> tuple[Tensor, Tensor]:
        """Leaves in the network the gradients of the batch's mean loss, those of all processes averaged."""
        train, model = self.config.train, self.config.model
        size = image_size(train, model.input_size, epoch)
        # As many in each process, however the images fall: norms may count over all of them.
        parts = share.parts(min(self.accumulate, share.total // self._group.world))
        losses, metrics = [], []
        self.optimiser.zero_grad()
        for number, part in enumerate(parts, start=1):
            generator = generator_for(train.seed, epoch, 1 + step * 4096)
            if number == 1:
                # Layers that draw for themselves (dropout) use torch's global generators, in each process another.
                torch.manual_seed(generator.initial_seed() + self._group.rank)
            start = part.first - share.first
            rows = slice(None) if self.task.mixes(train) else slice(start, start + part.count)
            with self._group.unsynchronised(self._trained) if number < len(parts) else nullcontext():
                loss, train_metric = self.task.training_step(
                    self._forward,
                    images[rows],
                    targets[rows],
                    StepSettings(size, computing_type(self.precision), model, train, generator, part),
                )
                # The processes' gradients are averaged: equal shares count alike, others by their images.
                weighted = loss * (part.count * self._group.world / share.total)
                self._scaler.scale(weighted).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach() * (part.count / share.count))
            metrics.append(train_metric)
        return sum(losses[1:], losses[0]), sum(metrics[1:], metrics[0])

    def _forward(self, inputs: Tensor, *others: Any) -> Any:
        """The network's outputs in its precision.

        Raises:
            TrainingError: it cannot learn from images of this size, or from so few.
        """
        # Micro-batches add gradients up, in memory that the next replay would write to.
        called = self.replayed if self.replayed and self.accumulate == 1 else self._trained
        try:
            with autocast(self.device, self.precision):
                return called(inputs, *others)
        except (RuntimeError, ValueError, IndexError, ZeroDivisionError, AssertionError) as error:
            if is_shortage(error) or is_lost_process(error):
                raise
            count, size = len(inputs), inputs.shape[-1]
            raise TrainingError(
                f"{self.config.model.architecture} cannot learn from {count} images of {size}x{size}: "
                f"{first_line(error)}",
                "try another model.input_size, train.batch_size or model; --debug shows where it failed",
            ) from error

    def evaluated(self) -> nn.Module:
        """A copy of the network as it is to be evaluated and kept: averaged weights where there is an average."""
        self._evaluated.load_state_dict(self.average.state if self.average else self.network.state_dict())
        return self._evaluated

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All state by group, for `save_training`."""
        groups = {"network": self.network.state_dict(), "optimiser": optimiser_tensors(self.network, self.optimiser)}
        if self.average:
            groups["average"] = self.average.state
        if self.accumulate != self.config.train.accumulate:
            groups[MICRO_BATCHES] = {
                "asked": torch.tensor(self.config.train.accumulate),
                "made": torch.tensor(self.accumulate),
            }
        if self._scaler.is_enabled():
            scaler = self._scaler.state_dict()
            groups["scaler"] = {key: torch.tensor(float(value)) for key, value in scaler.items()}
        return groups

    def restore(self, groups: dict[str, dict[str, Tensor]]) -> None:
        """Puts back what `tensors` returned."""
        self.network.load_state_dict(groups["network"])
        restore_optimiser(self.network, self.optimiser, groups.get("optimiser", {}))
        if self.average:
            for name, tensor in groups["average"].items():
                self.average.state[name].copy_(tensor)
        raised = groups.get(MICRO_BATCHES)
        # One that is resumed with another `train.accumulate` is to find out anew.
        if raised and raised["asked"].item() == self.config.train.accumulate:
            self.accumulate = int(raised["made"].item())
        if self._scaler.is_enabled():
            state = {key: value.item() for key, value in groups["scaler"].items()}
            self._scaler.load_state_dict({**state, "growth_interval": int(state["growth_interval"])})


def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    """Copies tensors into others like them, in a few launches, for which nothing waits."""
    if source:
        with torch.no_grad():
            torch._foreach_copy_(target, source)


def save_training(
    path: Path, groups: dict[str, dict[str, Tensor]], state: TrainingState, former: Path | None = None
) -> None:
    """Writes the training state atomically; `groups` are named sets of tensors, stored as `group:name`.

    `former` is that of `files.atomic_path`.
    """
    tensors = {f"{group}:{name}": tensor for group, members in groups.items() for name, tensor in members.items()}
    save_tensors(path, tensors, {STATE_KEY: json.dumps(vars(state), allow_nan=False)}, former)


def load_training(path: Path) -> tuple[dict[str, dict[str, Tensor]], TrainingState]:
    """Reads back what `save_training` wrote.

    Raises:
        ModelError: the file is damaged or no training state.
    """
    tensors, metadata = load_tensors(path)
    state = state_of(path, metadata)
    groups: dict[str, dict[str, Tensor]] = {}
    for full_name, tensor in tensors.items():
        group, _, name = full_name.partition(":")
        groups.setdefault(group, {})[name] = tensor
    return groups, state
