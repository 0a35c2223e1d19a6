"""`nanocv train` in a process of its own that can be killed, and that does not spend seconds on importing torch."""

import multiprocessing
import os
import sys
from itertools import count
from pathlib import Path

# A server that has imported everything forks each process; elsewhere than on Linux a fork of it would not be safe.
_CONTEXT = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
_IMPORTED = [
    "nanocv_cli.training.train",
    "nanocv_cli.exporting.graph_file",
    "torch._dynamo",
    "torch.onnx._internal.exporter._core",
]
_numbers = count()


class TrainProcess:
    """A training that has been started in `folder`, as the command line starts it; its stderr goes to a file there."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._errors = folder / f"stderr-{next(_numbers)}.txt"
        _CONTEXT.set_forkserver_preload(_IMPORTED)
        self._process = _CONTEXT.Process(target=_train, args=(folder, arguments, self._errors))
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


def _train(folder: Path, arguments: tuple[str, ...], errors: Path) -> None:
    from nanocv_cli.app import main

    os.chdir(folder)
    for number, target in ((1, os.devnull), (2, errors)):
        os.dup2(os.open(target, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["nanocv", "train", *arguments]
    main()
