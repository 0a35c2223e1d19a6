"""One training on several processes, one per device: torchrun's variables tell them apart."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import nn
from torch.distributed import DistError
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from nanocv_cli.config.schema import TrainConfig
from nanocv_cli.errors import RequestError, TrainingError
from nanocv_cli.untrusted import first_line

# How long processes wait for one another: to meet, and for one that decodes, measures or saves for all.
JOINING, WAITING = timedelta(minutes=5), timedelta(hours=2)
LAUNCHED = "NANOCV_NPROC"  # set for the processes that `--nproc` starts
LOST_STATUS = 75  # of one of them that has lost another

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together; a lone one is a group of one.

    Attributes:
        rank: of this process; 0 leads: it alone talks, evaluates and writes.
        world: number of processes.
        restarts: how often torchrun has started them anew, after one was lost.
    """

    rank: int = 0
    world: int = 1
    restarts: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that talks and writes."""
        return self.rank == 0

    def expect_even_shares(self, train: TrainConfig) -> None:
        """Makes sure that a batch divides among the processes, and their shares into micro-batches.

        Raises:
            RequestError: it does not.
        """
        parts = self.world * train.accumulate
        if train.batch_size % parts == 0:
            return
        nearest = max(1, round(train.batch_size / parts)) * parts
        fewer = [count for count in range(1, self.world) if train.batch_size % (count * train.accumulate) == 0]
        raise RequestError(
            f"train.batch_size {train.batch_size} does not divide into {self.world} (processes) x {train.accumulate} "
            "(train.accumulate)",
            f"--batch-size {nearest}" + (f", or {fewer[-1]} process{'es' * (fewer[-1] > 1)}" if fewer else ""),
        )

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network as it is called in training: gradients are averaged over the group."""
        if self.world == 1:
            return network
        wrapped = DistributedDataParallel(network)
        # What norms have counted is the leader's where it is read, and how often processes call theirs may differ.
        wrapped.broadcast_buffers = False
        return wrapped

    def unsynchronised(self, wrapped: nn.Module) -> AbstractContextManager[None]:
        """A context in which gradients stay this process's own, until a step backwards outside of it averages them.

        Args:
            wrapped: what `wrap` returned.
        """
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()

    def sums(self, *values: float) -> tuple[float, ...]:
        """Each value summed over the group."""
        if self.world == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(total)
        return tuple(total.tolist())

    def from_leader(self, value: Any) -> Any:
        """The leader's value, on every process."""
        if self.world == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def on_leader(self, value: Any) -> list[Any]:
        """Every process's value, by rank, on the leader; nothing elsewhere."""
        if self.world == 1:
            return [value]
        gathered: list[Any] | None = [None] * self.world if self.is_main else None
        torch.distributed.gather_object(value, gathered)
        return gathered or []

    def take_leaders(self, module: nn.Module) -> nn.Module:
        """The module with the leader's parameters and statistics, on every process."""
        if self.world > 1:
            for tensor in module.state_dict().values():
                sent = tensor.contiguous()  # memory is sent, and its order may differ
                torch.distributed.broadcast(sent, src=0)
                tensor.copy_(sent)
        return module

    def leader_first(self, work: Callable[[], Outcome]) -> Outcome:
        """Does a piece of work on every process, on the leader first: what it leaves on disk, the others find."""
        done = [work()] if self.is_main else []
        self.from_leader(None)
        return done[0] if done else work()


ALONE = ProcessGroup()


def is_member() -> bool:
    """Whether this process was started as part of a group."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextmanager
def joined_group(device: torch.device) -> Iterator[ProcessGroup]:
    """Joins the group that the environment names, or is a group of one; leaves it at the end.

    Raises:
        RequestError: the environment names no whole group, or this machine has no device for this process.
        TrainingError: the others do not come, or one of them is lost.
    """
    if not is_member():
        yield ALONE
        return
    if device.type == "cuda":
        _take_gpu(int(os.environ.get("LOCAL_RANK", "0")))
    group = _join(device)
    try:
        yield group
    except Exception as error:
        if LAUNCHED in os.environ and threading.current_thread() is threading.main_thread():
            # The others are told to end; this process has a reason of its own to tell.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if not is_lost_process(error):
            raise
        if LAUNCHED in os.environ:  # who launched the group says which one it was
            raise SystemExit(LOST_STATUS) from error
        raise TrainingError(
            f"process {group.rank} of {group.world} has lost another one, and stops",
            "look for what that one said, and go on with nanocv train --resume RUN from the last save",
        ) from error
    finally:
        torch.distributed.destroy_process_group()


def _take_gpu(place: int) -> None:
    if place >= (there := torch.cuda.device_count()):
        raise RequestError(
            f"process {place} of this machine asks for a GPU of its own, and there are {there}",
            f"start {there} here (--nproc, or torchrun --nproc-per-node), or use --device cpu",
        )
    torch.cuda.set_device(place)


def _join(device: torch.device) -> ProcessGroup:
    """Joins the group; a process that is missing is waited for no longer than `JOINING`."""
    try:
        store, rank, world = next(rendezvous("env://", timeout=JOINING))
        store.set_timeout(JOINING)
        # What is told among processes goes by gloo, gradients by the device's own way: no step waits for the device.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=WAITING)
    except ValueError as error:  # a variable is missing or no number
        raise RequestError(
            f"this process is to join others, and its environment does not say how: {first_line(error)}",
            "start it by --nproc or torchrun; on its own, without RANK and WORLD_SIZE",
        ) from error
    except RuntimeError as error:
        if not is_lost_process(error):
            raise
        raise TrainingError(
            f"the processes of this training did not meet within {JOINING.total_seconds():.0f} s: {first_line(error)}",
            "start all of them, with one MASTER_ADDR and MASTER_PORT that each machine reaches; to torchrun with "
            "--max-restarts give TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1",
        ) from error
    # A machine that lost none of its own processes counts no restart, and starts them anew with the others.
    restarts = torch.tensor(int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")))
    torch.distributed.all_reduce(restarts, torch.distributed.ReduceOp.MAX)
    return ProcessGroup(rank, world, int(restarts))


def is_lost_process(error: BaseException) -> bool:
    """Whether an exception says that another process of the group answers no more."""
    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
