"""One training on several processes, one per device, started here or by torchrun: its variables tell them apart."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nanocv_cli.config.schema import TrainConfig
from nanocv_cli.errors import RequestError, TrainingError
from nanocv_cli.interrupts import Terminated
from nanocv_cli.machine import usable_processors
from nanocv_cli.output import say

POLL_SECONDS = 0.2
GRACE_SECONDS = 10.0

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together; a lone one is a group of one.

    Attributes:
        rank: of this process; 0 leads: it alone talks, evaluates and writes.
        world: number of processes.
    """

    rank: int = 0
    world: int = 1

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
        # What norms count is the leader's where it is read: it validates and saves.
        return DistributedDataParallel(network, broadcast_buffers=False)

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
        if torch.distributed.get_backend() == "nccl":
            total = total.to(torch.float32).cuda()
        torch.distributed.all_reduce(total)
        return tuple(total.tolist())

    def from_leader(self, value: Any) -> Any:
        """The leader's value, on every process."""
        if self.world == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

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
    """Joins the group that the environment names, or is a group of one; leaves it at the end."""
    if not is_member():
        yield ProcessGroup()
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield ProcessGroup(torch.distributed.get_rank(), torch.distributed.get_world_size())
    finally:
        torch.distributed.destroy_process_group()


def launch(count: int, arguments: list[str]) -> int:
    """Runs `nanocv ARGUMENTS` as a group of `count` processes on this machine.

    Ctrl-C reaches all of them through the terminal. Where one fails the others are ended, and only one speaks of it:
    the leader, or where that one is well, the process that failed.

    Returns:
        the exit status: 0, or that of the process that failed, which has said why.

    Raises:
        TrainingError: a process was killed, and could not say anything.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    threads = str(max(1, usable_processors() // count))
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", threads)
    command = [sys.executable, "-m", "nanocv_cli.app", *arguments]
    with contextlib.ExitStack() as stack:
        spoken = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(1, count)]
        members = [
            subprocess.Popen(
                command, env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=stderr
            )
            for rank, stderr in enumerate((None, *spoken))
        ]
        try:
            failed = _watch(members)
        finally:
            for member in members:
                if member.poll() is None:
                    member.kill()
        if failed is None:
            return 0
        if failed > 0:
            spoken[failed - 1].seek(0)
            for line in spoken[failed - 1].read().decode(errors="replace").splitlines():
                say(line)
        status = members[failed].returncode
        if status < 0:
            raise TrainingError(f"process {failed} of the training was ended by signal {-status}")
        return status


def _watch(members: list["subprocess.Popen[bytes]"]) -> int | None:
    """Waits for all members; ends the others once one has failed. Returns the rank to blame, the leader first."""
    try:
        while any(member.poll() is None for member in members) and not any(member.poll() for member in members):
            time.sleep(POLL_SECONDS)
    except Terminated:  # sent to this process alone
        for member in members:
            member.terminate()
    except KeyboardInterrupt:
        pass  # the terminal has told the members too: they save and end by themselves; their exit status says so
    failed = any(member.poll() for member in members)
    for rank, member in enumerate(members):
        try:
            # A member that lost another one fails a moment later, or is saving what was learnt.
            member.wait(GRACE_SECONDS if failed else None)
        except subprocess.TimeoutExpired:
            member.terminate()
            member.wait()
            if rank == 0:
                return next(r for r, m in enumerate(members) if r and m.poll())
    return next((rank for rank, member in enumerate(members) if member.returncode), None)
