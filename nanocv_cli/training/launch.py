"""`--nproc N`: torchrun on this machine, one process per device, with one voice and the exit status of who failed."""

import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path

import torch

from nanocv_cli.errors import RequestError, TrainingError
from nanocv_cli.interrupts import EXIT_CODE
from nanocv_cli.machine import usable_processors
from nanocv_cli.models.device import pick_device
from nanocv_cli.output import say
from nanocv_cli.training.distributed import LAUNCHED, LOST_STATUS

LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.1
# Asked to stop, processes end their step and save; a second Ctrl-C ends them at once.
STOPPING_SECONDS = 3600


def launch(count: int, arguments: list[str], device: str) -> int:
    """Runs `nanocv ARGUMENTS` as a group of `count` processes on this machine.

    Args:
        count: of the processes.
        arguments: of the command line.
        device: as `pick_device` takes it; the processes pick theirs themselves.

    Returns:
        the exit status: 0, or that of the process that failed, which has said why.

    Raises:
        RequestError: there are not as many devices.
        TrainingError: a process was killed, and could not say anything.
    """
    _expect_devices(count, pick_device(device))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_processors() // count)))
    return run_group([sys.executable, "-m", "nanocv_cli.app", *arguments], count)


def _expect_devices(count: int, device: torch.device) -> None:
    if device.type == "cpu":
        if count > (processors := usable_processors()):
            say(f"note: {count} processes share {processors} processor{'s' * (processors > 1)}; fewer would be faster")
        return
    there = torch.cuda.device_count() if device.type == "cuda" else 1
    if count > there:
        raise RequestError(
            f"--nproc {count} asks for a {device.type} device each, and this machine has {there}",
            f"--nproc {there}, or --device cpu" if there > 1 else "leave --nproc out, or use --device cpu",
        )


def run_group(command: list[str], count: int) -> int:
    """Runs a command in `count` processes that torchrun's variables tell apart, and ends all where one fails.

    They are sessions of their own: Ctrl-C and SIGTERM come to this process alone, which passes them on and waits. Only
    the leader's output is seen; that of another is shown where it is the one to blame.

    Returns, raises: see `launch`.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.CRITICAL)  # what the agent would say is said here, in one line
    os.environ[LAUNCHED] = str(count)
    stopping = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        stopping.append(signal.SIGHUP)
    with tempfile.TemporaryDirectory(prefix="nanocv-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint=f"{LOOPBACK}:0",
            local_addr=LOOPBACK,
            max_restarts=0,
            monitor_interval=POLL_SECONDS,
            logs_specs=DefaultLogsSpecs(folder, dict.fromkeys(range(1, count), Std.ALL)),
            signals_to_handle=",".join(number.name for number in stopping),
            shutdown_timeout=STOPPING_SECONDS,
        )
        try:
            elastic_launch(config, command[0])(*command[1:])
        except SignalException:
            return EXIT_CODE
        except ChildFailedError as failed:
            statuses = {rank: failure.exitcode for rank, failure in failed.failures.items()}
            rank = to_blame(statuses)
            return _told(rank, statuses[rank], count, Path(folder))
        return 0


def to_blame(statuses: Mapping[int, int]) -> int:
    """The rank that failed by itself, of processes that ended with these statuses (not 0; below 0: by a signal).

    The others are ended, or lose the one that failed, and fail in their turn.
    """
    ranks = sorted(statuses)
    killed = [rank for rank in ranks if statuses[rank] < 0 and statuses[rank] != -signal.SIGTERM]
    failed = [rank for rank in ranks if statuses[rank] > 0 and statuses[rank] not in (LOST_STATUS, EXIT_CODE)]
    return (killed + failed + ranks)[0]


def _told(rank: int, status: int, count: int, folder: Path) -> int:
    """Shows what the process to blame has said, unless it is the leader; returns its status."""
    if status < 0:
        name = signal.Signals(-status).name
        memory = ", as the system does where memory runs out" if -status == signal.SIGKILL else ""
        raise TrainingError(
            f"process {rank} of {count} was ended by {name}{memory}; the others were stopped",
            "nanocv train --resume RUN goes on from the last save, with as many or fewer processes",
        )
    for stream, name in ((sys.stdout, "stdout.log"), (sys.stderr, "stderr.log")):
        for path in folder.glob(f"*/attempt_0/{rank}/{name}"):
            for line in path.read_text(errors="replace").splitlines():
                say(line, stream)
    return status
