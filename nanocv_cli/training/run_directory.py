"""A run's folder: where each file lies, and the lock that keeps a second training out."""

import fcntl
import os
import shutil
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from nanocv_cli.engine.reference import CHECKPOINT, GRAPH, SUMMARY, read_summary
from nanocv_cli.errors import ModelError, RequestError, StorageError, TrainingError
from nanocv_cli.files import expect_folder, make_folder, sweep, write_json
from nanocv_cli.training.state import read_progress
from nanocv_cli.untrusted import safe_name

LOCK = "run.lock"
MOMENT = 0.05  # seconds; a listing of runs looks at a lock for less


class RunDirectory:
    """Paths inside one run folder.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.origins = path / "origins.json"
        self.best = path / CHECKPOINT
        self.best_copy = self.best.with_stem("best-copy")
        self.last = path / "checkpoints" / "last.safetensors"
        self.previous = self.last.with_stem("previous")
        self.graph = path / GRAPH
        self.summary = path / SUMMARY
        self.history = path / "history.json"
        self.curves = path / "curves.png"
        self.start = path / "start.json"
        self.companions = path / "companions.json"
        self.identity = path / "identity"
        self.recorded = tuple(path / name for name in ("dvclive", "tensorboard", "wandb"))
        self._lock: int | None = None
        self._made: list[Path] = []  # folders that were not there before
        self._is_new = False

    @classmethod
    def create(cls, root: Path, out: Path | None, model: str, data: str) -> "RunDirectory":
        """A new run folder: `out`, else `root/runs/<model>-<data>-<time>`, made and locked.

        Raises:
            RequestError: `out` holds something already.
            StorageError: the folder cannot be written.
        """
        if out is None:
            stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
            base = root / "runs" / safe_name(f"{model}-{data}-{stamp}")
            out = next(
                p for p in (base, *(base.with_name(f"{base.name}-{i}") for i in range(2, 1000))) if not p.exists()
            )
        expect_folder(out)
        run = cls(out)
        run._made = [path for path in (out, *out.parents) if not path.exists()]
        try:
            make_folder(out)
            is_ours = not (out / LOCK).exists()
            run.lock()
            sweep(out)  # what a run that was killed as it began has left would stand in the way of another
            run._is_new = all(entry.name == LOCK for entry in out.iterdir())
        except OSError as error:
            raise StorageError(
                f"cannot write the run folder {out}: {error.strerror}", "choose another --out"
            ) from error
        if not run._is_new:
            if is_ours:
                (out / LOCK).unlink(missing_ok=True)
            run.__exit__()
            raise RequestError(
                f"{out} is not empty", f"nanocv train --resume {out} continues it; else choose another --out"
            )
        return run

    @classmethod
    def existing(cls, root: Path, name: str) -> "RunDirectory":
        """The run to resume: a folder, or the name of one under `root/runs`; not locked yet.

        Raises:
            RequestError: there is no such run, it was stopped before it had begun, or it is finished.
        """
        candidates = [Path(name), root / "runs" / name]
        path = next((p for p in candidates if p.is_dir()), None)
        if path is None:
            raise RequestError(f"no run folder {name}", f"runs are kept under {root / 'runs'}")
        run = cls(path)
        if not run.config.is_file():
            raise RequestError(f"{path} holds no config.yaml: nothing was trained there yet", "start a new run")
        if read_summary(path):
            raise RequestError(f"{path} is finished", "start a new run, with other --set values perhaps")
        return run

    def lock(self) -> None:
        """Takes the folder for this process until it ends, however it ends; taking it twice is taking it once.

        Raises:
            TrainingError: another training has it.
        """
        if self._lock is not None:
            return
        path = self.path / LOCK
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
            try:
                _take(descriptor)
            except OSError as error:
                owner = os.read(descriptor, 32).decode(errors="replace").strip()
                os.close(descriptor)
                raise TrainingError(
                    f"another training (process {owner or 'unknown'}) is writing {self.path}",
                    "wait for it, or choose another --out",
                ) from error
            with suppress(FileNotFoundError):  # removed by the run that had it, between the two calls
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    break
            os.close(descriptor)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._lock = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        """Gives the folder free; a new run that failed before anything was learnt leaves none."""
        if self._lock is None:
            return
        if any(failure) and not self.outlives_failure:
            self._unmake()
        os.close(self._lock)
        self._lock = None

    @property
    def has_state(self) -> bool:
        """Whether a state was saved that the run can go on from."""
        return self.last.is_file() or self.previous.is_file()

    @property
    def outlives_failure(self) -> bool:
        """Whether a failure leaves the folder, to be resumed; a new run's only once something was learnt."""
        return not self._is_new or self.best.exists() or self._has_learnt()

    def _has_learnt(self) -> bool:
        """Whether the last checkpoint holds more than what the run started from; one that cannot be read may."""
        if not self.last.exists():
            return self.previous.exists()
        try:
            progress = read_progress(self.last)
        except ModelError:
            return True
        return progress.epoch > 0 or progress.step > 0

    def _unmake(self) -> None:
        """Removes what a run makes before it learns, and the folders that were made for it."""
        self.config.unlink(missing_ok=True)
        self.origins.unlink(missing_ok=True)
        for record in (self.start, self.companions, self.last, self.identity):
            record.unlink(missing_ok=True)
        for folder in self.recorded:
            shutil.rmtree(folder, ignore_errors=True)
        (self.path / LOCK).unlink(missing_ok=True)
        for folder in (self.best.parent, *self._made):
            with suppress(OSError):  # not there, or it holds something of somebody else
                folder.rmdir()

    def finish(self, summary: dict[str, Any]) -> None:
        """Writes `summary.json`: from now on the run counts as finished and can be found by its model's name.

        What it kept twice until then is needed no more.
        """
        write_json(self.summary, summary)
        for spare in (self.previous, self.best_copy):
            spare.unlink(missing_ok=True)


def _take(descriptor: int) -> None:
    """Takes a lock, or fails at once, but for the moment in which somebody only looks whether it is taken."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(MOMENT)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
