"""The trackers that a run asks for by `train.log`: opened by name, told one story, and ended with the training."""

import os
import secrets
from contextlib import suppress
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from string import hexdigits
from types import TracebackType
from typing import Self

from nanocv_cli.files import write_text
from nanocv_cli.tasks.evaluator import Metrics
from nanocv_cli.training.context import TrainContext
from nanocv_cli.training.epoch import Interrupted
from nanocv_cli.training.recorders.background import BackgroundTracker, Telling
from nanocv_cli.training.recorders.libraries import LIBRARIES
from nanocv_cli.training.recorders.tracker import Outcome, Results, Row, Subject, Tracker
from nanocv_cli.untrusted import read_regular

IDENTITY_DIGITS = 16


class Recorders:
    """All trackers of a training, of the group's main process alone; what one cannot do stops nobody.

    Use it as a context: its end ends what is recorded, as finished, interrupted or failed.

    Args:
        context: the training.
        root: the project.
    """

    def __init__(self, context: TrainContext, root: Path) -> None:
        self._context, self._root = context, root
        self._names = context.config.train.log if context.group.is_main else ()
        self._direct: list[Tracker] = []
        self._background: list[BackgroundTracker] = []
        self._set: list[str] = []

    def __enter__(self) -> Self:
        for name in self._names:
            for key, value in LIBRARIES[name].environment.items():
                if key not in os.environ:
                    os.environ[key] = value
                    self._set.append(key)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        interrupted = isinstance(error, Interrupted | KeyboardInterrupt)
        outcome: Outcome = "finished" if error is None else "interrupted" if interrupted else "failed"
        for tracker in self._background:
            tracker.close(outcome)
        for key in self._set:
            os.environ.pop(key, None)

    def begin(self, history: list[Row]) -> None:
        """Opens all trackers, and tells them of the epochs before."""
        if not self._names:
            return
        background = [name for name in self._names if LIBRARIES[name].may_wait]
        identity = self._identity() if background else ""
        subject = Subject(self._context.run.path, self._root, self._context.config, identity)
        for name in background:
            make = partial(_open, name, subject)
            self._background.append(BackgroundTracker(name, make, self._context.display.say))
        self._direct = [_open(name, subject) for name in self._names if name not in background]
        for tracker in self._direct:
            tracker.begin()
        for row in history:
            self.add_epoch(row)

    def add_epoch(self, row: Row) -> None:
        """Records an evaluated epoch, see `Tracker.add_epoch`."""
        self._tell(lambda tracker: tracker.add_epoch(row))

    def add_results(self, epoch: int, metrics: Metrics, images: tuple[Path, ...]) -> None:
        """Records what was reached, see `Results`."""
        results = Results(epoch, metrics, images)
        self._tell(lambda tracker: tracker.add_results(results))

    def add_model(self) -> None:
        """Records the files of the run's model."""
        run = self._context.run
        self._tell(lambda tracker: tracker.add_model(run.graph, run.best))

    def _tell(self, telling: Telling) -> None:
        for tracker in self._direct:
            telling(tracker)
        for background in self._background:
            background.tell(telling)

    def _identity(self) -> str:
        """The run's own, drawn when it begins; what a resume finds in place of it is replaced where it cannot be."""
        path = self._context.run.identity
        with suppress(OSError, ValueError):
            known = read_regular(path, 64).decode().strip()
            if len(known) == IDENTITY_DIGITS and set(known) <= set(hexdigits):
                return known
        drawn = secrets.token_hex(IDENTITY_DIGITS // 2)
        write_text(path, f"{drawn}\n")
        return drawn


def _open(name: str, subject: Subject) -> Tracker:
    """A tracker by name; its library is imported now."""
    tracker: Tracker = resolve_name(LIBRARIES[name].tracker)(subject)
    return tracker
