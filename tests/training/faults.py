"""Faults drawn from a seed and thrown at a training, in a process of its own that some of them kill.

An attempt is a training as `nanocv train` begins or resumes it, with a fault before it (images gone or unreadable) or
while it goes on (at an operation on files, at a step), and often with a file torn before. What a draw does depends on
the seed alone: operations are counted in the main thread. Charts and the graph are stood in for by small files: how
they are made takes seconds, and how they are written is what is tried.
"""

import contextlib
import errno
import json
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from matplotlib.figure import Figure

from nanocv_cli.api.training import run_training
from nanocv_cli.errors import InternalError, NanocvError, as_failure
from nanocv_cli.exporting import graph_file
from nanocv_cli.files import write_bytes
from nanocv_cli.interrupts import EXIT_CODE, raising
from nanocv_cli.models.checkpoint import load_tensors
from nanocv_cli.training.context import TrainRequest
from nanocv_cli.training.learner import Learner, load_training
from nanocv_cli.training.run_directory import RunDirectory
from nanocv_cli.training.state import TrainingState

BEFORE = ("unreadable", "vanished")
DURING = ("killed", "killed", "full", "full", "cut", "refused", "stopped", "stopped at a step", "stopped twice", "gone")
LAST_OPERATION, LAST_STEP = 60, 14
PAIRS = (("last", "previous"), ("best", "best_copy"))
TORN_OFTEN = 0.4
REFUSALS = (errno.EIO, errno.EROFS, errno.EDQUOT, errno.ESTALE)
MOST_ATTEMPTS = 200
YEARS = 10 * 365 * 86_400.0


@dataclass
class Fault:
    """What is to happen in an attempt: at its `at`th operation or step, in one of the ways above."""

    kind: str
    at: int
    number: int = 0
    again: int = 0
    has_happened: bool = False


class Trouble:
    """Counts what the main thread does to files under a folder, and has a fault happen at its turn."""

    def __init__(self, root: Path) -> None:
        self.root, self.fault, self.count = f"{root}{os.sep}", Fault("none", 0), 0
        self.is_on = False
        sys.addaudithook(self._hook)
        fsync = os.fsync

        def counted(descriptor: int) -> None:
            self.happen("fsync")
            fsync(descriptor)

        os.fsync = counted

    @contextlib.contextmanager
    def during(self, fault: Fault) -> Iterator[None]:
        self.fault, self.count, self.is_on = fault, 0, True
        try:
            yield
        finally:
            self.is_on = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on or event not in ("open", "os.rename", "os.mkdir", "os.remove", "os.truncate", "os.link"):
            return
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        path = arguments[0]  # or a descriptor, of what was opened before
        if isinstance(path, str | bytes) and str(Path(os.fsdecode(path)).absolute()).startswith(self.root):
            self.happen(event)

    def happen(self, event: str) -> None:
        if not self.is_on or threading.current_thread() is not threading.main_thread():
            return
        self.count += 1
        fault = self.fault
        if fault.kind == "killed" and self.count == fault.at:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.kind in ("stopped", "stopped twice") and self.count == fault.at:
            fault.has_happened = True
            os.kill(os.getpid(), signal.SIGTERM)
        if fault.kind == "stopped twice" and self.count == fault.at + fault.again:
            os.kill(os.getpid(), signal.SIGTERM)
        # A full disk stays full, but lets go and rename; one that refuses refuses all, once or from then on.
        is_full = fault.kind == "full" and self.count >= fault.at and event not in ("os.remove", "os.rename")
        is_refused = fault.kind == "refused" and fault.at <= self.count <= fault.at + fault.again
        if is_full or is_refused:
            fault.has_happened = True
            raise OSError(fault.number, os.strerror(fault.number))


@dataclass
class Life:
    """A run from its beginning until it is finished, whatever happens to it.

    Attributes:
        root: folder of the project, of the report `faults.jsonl` and of what was said, `stderr.txt`.
        data: the images; they are put back after each fault.
        run: the run's folder.
        arguments: config overrides.
        streams: whether images are read while the run goes on.
        seed: of the faults.
        attempt: the next one.
    """

    root: Path
    data: Path
    run: Path
    arguments: tuple[str, ...]
    streams: bool
    seed: str
    attempt: int = 0

    def go_on(self, harmless: bool = False) -> None:
        """Attempts, each with a fault, until the run is finished or a fault ends this process."""
        stand_in_for_charts_and_graph()
        os.chdir(self.root)
        with Path("stderr.txt").open("w") as said:
            os.dup2(said.fileno(), 2)
        trouble = Trouble(self.root)
        while not (self.run / "summary.json").exists():
            assert self.attempt < MOST_ATTEMPTS, "the run does not come to its end"
            self._attempt(trouble, random.Random(f"{self.seed} {self.attempt}"), harmless)
            self.attempt += 1

    def _attempt(self, trouble: Trouble, chance: random.Random, harmless: bool) -> None:
        kept = progress(self.run)
        fault = Fault("none", 0) if harmless else draw(chance, self.streams, has_state(self.run))
        torn = tear(self.run, chance) if not harmless and chance.random() < TORN_OFTEN else ""
        whole = progress(self.run)
        assert whole.epoch >= kept.epoch - (torn == "last"), f"torn {torn}: from {kept.epoch} to {whole.epoch}"
        what = f"{fault.kind} at {fault.at}{f', {torn} torn' if torn else ''}"
        self.tell(attempt=self.attempt, began=what, torn=bool(torn))
        with self._images(fault, chance), clock(chance), stepping(fault, self.data), trouble.during(fault):
            outcome = attempt(self.run, self.data, self.arguments, fault)
        reached = progress(self.run)
        assert reached.epoch >= whole.epoch, f"{what}: epoch {whole.epoch} was lost, {reached.epoch} is kept"
        if isinstance(outcome, NanocvError):
            told = f"{outcome.message} / {outcome.hint}"
            assert outcome.hint, f"{what}: no hint: {told}"
            assert not isinstance(outcome, InternalError), f"{what}: {told}"
            goes_on = not has_state(self.run) or outcome.kind not in ("storage", "data", "interrupted")
            goes_on |= fault.kind == "vanished" or f"nanocv train --resume {self.run}" in outcome.hint
            assert goes_on, f"{what}: it does not say how to go on: {told}"
        else:
            told = "interrupted" if outcome else ""
        self.tell(attempt=self.attempt, ended=what, happened=fault.has_happened, told=told)
        if isinstance(outcome, KeyboardInterrupt):
            os._exit(EXIT_CODE)

    @contextlib.contextmanager
    def _images(self, fault: Fault, chance: random.Random) -> Iterator[None]:
        """Images gone, or one that cannot be read; afterwards all are there as they were."""
        aside = self.data.with_name("aside")
        victim = chance.choice(sorted((self.data / "train").rglob("*.png")))
        content = victim.read_bytes()
        if fault.kind == "unreadable":
            victim.write_bytes(content[: chance.randrange(len(content) // 2)])
        if fault.kind == "vanished":
            self.data.rename(aside)
        fault.has_happened |= fault.kind in ("unreadable", "vanished")
        try:
            yield
        finally:
            if aside.exists():
                aside.rename(self.data)
            if fault.kind == "unreadable":
                victim.write_bytes(content)

    def tell(self, **what: Any) -> None:
        with (self.root / "faults.jsonl").open("a") as report:
            report.write(json.dumps(what) + "\n")


def draw(chance: random.Random, streams: bool, resumes: bool) -> Fault:
    """A fault that makes sense: only what is there can be torn, only a run that resumes is held to its images."""
    kinds = [*DURING, *(BEFORE if resumes else ("vanished",))]
    if streams:  # an unreadable image is stood in for: another run, which is not compared here
        kinds = [kind for kind in kinds if kind != "unreadable"]
    kind = chance.choice(kinds)
    last = LAST_STEP if kind in ("stopped at a step", "gone") else LAST_OPERATION
    number = errno.ENOSPC if kind == "full" else chance.choice(REFUSALS)
    again = chance.choice((0, 1, 10_000)) if kind == "refused" else chance.randint(1, 12)
    return Fault(kind, chance.randint(1, last), number, again)


def tear(run: Path, chance: random.Random) -> str:
    """Cuts one of the run's files short, or empties its end; its name, or none where there is nothing to tear."""
    folder = RunDirectory(run)
    names = ["history"] if folder.history.exists() else []
    for pair in PAIRS:
        # Of a pair one at a time: each is on the disk before the other is written.
        if all(is_whole(getattr(folder, name)) for name in pair):
            names += pair
    if not names:
        return ""
    path: Path = getattr(folder, name := chance.choice(names))
    content = path.read_bytes()
    left = content[: chance.randrange(len(content))]
    path.write_bytes(left + (bytes(len(content) - len(left)) if chance.random() < 0.5 else b""))
    return name


def attempt(run: Path, data: Path, arguments: tuple[str, ...], fault: Fault) -> NanocvError | KeyboardInterrupt | None:
    """Trains as the command line does, to the end or to a failure, which is returned."""
    new = TrainRequest(str(data), "lenet", None, arguments, run)
    # As a user would: a run that has begun is resumed, one that never did is begun again.
    request = TrainRequest(resume=str(run)) if (run / "config.yaml").exists() else new
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if fault.kind == "cut":
            # The system itself ends a write in the middle, wherever a file becomes longer than this.
            resource.setrlimit(resource.RLIMIT_FSIZE, (fault.at * 400, hard))
        with raising():
            run_training(request, "cpu")
    except KeyboardInterrupt as ended:
        return ended
    except Exception as error:
        fault.has_happened |= fault.kind == "cut"
        return as_failure(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    return None


@contextlib.contextmanager
def stepping(fault: Fault, data: Path) -> Iterator[None]:
    """Has SIGTERM come, or the images go, as a step is learnt."""
    learn, steps = Learner.learn, 0

    def counted(learner: Learner, *arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == fault.at and fault.kind in ("stopped at a step", "gone"):
            fault.has_happened = True
            if fault.kind == "gone":
                data.rename(data.with_name("aside"))
            else:
                os.kill(os.getpid(), signal.SIGTERM)
        return learn(learner, *arguments)

    Learner.learn = counted  # type: ignore[method-assign]
    try:
        yield
    finally:
        Learner.learn = learn  # type: ignore[method-assign]


@contextlib.contextmanager
def clock(chance: random.Random) -> Iterator[None]:
    """The clock is years off, and jumps at every look."""
    now: Callable[[], float] = time.time
    time.time = lambda: now() + chance.uniform(-YEARS, YEARS)
    try:
        yield
    finally:
        time.time = now


def has_state(run: Path) -> bool:
    return RunDirectory(run).has_state


def progress(run: Path) -> TrainingState:
    """Where the newest state stands that is whole."""
    folder, found = RunDirectory(run), TrainingState()
    for path in (folder.previous, folder.last):
        with contextlib.suppress(NanocvError):
            found = max(found, load_training(path)[1], key=lambda one: (one.epoch, one.step))
    return found


def is_whole(path: Path) -> bool:
    with contextlib.suppress(NanocvError):
        load_tensors(path)
        return True
    return False


def stand_in_for_charts_and_graph() -> None:
    """Small files in place of charts and of the graph."""

    def savefig(figure: Figure, path: Path, **_: Any) -> None:
        Path(path).write_bytes(b"chart")

    def export(checkpoint: Path, graph: Path, images: object) -> Any:
        write_bytes(graph, b"graph of " + checkpoint.read_bytes())
        return SimpleNamespace(parity=SimpleNamespace(max_abs_error=0.0, n=1))

    Figure.savefig = savefig  # type: ignore[assignment,method-assign]
    graph_file.export_graph = export  # type: ignore[assignment]
    graph_file.parity_images = lambda *_: None  # type: ignore[assignment,return-value]
