"""`nanocv train` in a process of its own that can be killed, and that does not spend seconds on importing torch."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Mapping
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

# A server that has imported everything forks each process; elsewhere than on Linux a fork of it would not be safe.
_CONTEXT = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
_IMPORTED = [
    "nanocv_cli.commands.train",
    "nanocv_cli.api.training",
    "nanocv_cli.training.train",
    "nanocv_cli.exporting.graph_file",
    "nanocv_cli.tasks.classification.task",
    "nanocv_cli.training.recorders.dvclive",
    "dvc.data_cloud",
    "dvc.repo.experiments",
    "dvc.repo.metrics.show",
    "dvc.repo.plots",
    "dvc.scm",
    "scmrepo.git",
    "matplotlib.backends.backend_agg",
    "torch._dynamo",
    "torch.export._trace",
    "torch.onnx._internal.exporter._compat",
    "tests.exporter",
]
_numbers = count()


def forked(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A process that has not begun yet, in which torch and nanocv are imported already."""
    _CONTEXT.set_forkserver_preload(_IMPORTED)
    return _CONTEXT.Process(target=target, args=arguments)


def group_environment(world: int) -> list[dict[str, str]]:
    """The variables of as many processes of one group on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": str(world)}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]


class TrainProcess:
    """A training that has been started in `folder`, as the command line starts it; its stderr goes to a file there.

    Args:
        folder: where.
        arguments: of `nanocv train`.
        environment: variables that it is given; those of `signal_at` are done as they say.
        torchrun: options of torchrun, where that is to start it.
        with_graph: whether it makes its charts and its graph, which take longer than a few small epochs; else it
            leaves small files in their places.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        torchrun: tuple[str, ...] = (),
        with_graph: bool = True,
    ) -> None:
        self._errors = folder / f"stderr-{next(_numbers)}.txt"
        self._process = forked(_train, folder, arguments, self._errors, dict(environment or {}), torchrun, with_graph)
        self._process.start()

    def is_running(self) -> bool:
        return self._process.is_alive()

    def send_signal(self, number: int) -> None:
        assert self._process.pid
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def finish(self, seconds: float = 240) -> tuple[int | None, str]:
        """Waits for the end: exit status and stderr."""
        self._process.join(seconds)
        return self._process.exitcode, self._errors.read_text()


def _train(
    folder: Path,
    arguments: tuple[str, ...],
    errors: Path,
    environment: Mapping[str, str],
    torchrun: tuple[str, ...],
    with_graph: bool,
) -> None:
    from nanocv_cli.app import main
    from tests.training.faults import stand_in_for_charts_and_graph
    from tests.training.signalled import MODULE, VARIABLE, arm

    os.chdir(folder)
    os.environ.update(environment)
    for number, target in ((1, os.devnull), (2, errors)):
        os.dup2(os.open(target, os.O_WRONLY | os.O_CREAT), number)
    if torchrun:
        from torch.distributed.run import main as start

        start([*torchrun, "-m", MODULE if VARIABLE in environment else "nanocv_cli.app", "train", *arguments])
        return
    if VARIABLE in environment:
        arm()
    if not with_graph:
        stand_in_for_charts_and_graph()
    sys.argv = ["nanocv", "train", *arguments]
    main()
