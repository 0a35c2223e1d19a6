"""A run's folder: where each file lies, and the lock that keeps a second training out."""

import fcntl
import os
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from nanocv_cli.errors import RequestError, StorageError, TrainingError
from nanocv_cli.files import write_json


class RunDirectory:
    """Paths inside one run folder.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.best = path / "checkpoints" / "best.safetensors"
        self.last = path / "checkpoints" / "last.safetensors"
        self.graph = path / "model.onnx"
        self.summary = path / "summary.json"
        self.curves = path / "curves.png"
        self.dvclive = path / "dvclive"
        self._lock: int | None = None

    @classmethod
    def create(cls, root: Path, out: Path | None, model: str, data: str) -> "RunDirectory":
        """A new run folder: `out`, else `root/runs/<model>-<data>-<time>`, made and locked.

        Raises:
            RequestError: `out` holds something already.
            StorageError: the folder cannot be written.
        """
        if out is None:
            stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
            base = root / "runs" / f"{model}-{data}-{stamp}"
            out = next(
                p for p in (base, *(base.with_name(f"{base.name}-{i}") for i in range(2, 1000))) if not p.exists()
            )
        run = cls(out)
        try:
            out.mkdir(parents=True, exist_ok=True)
            run.lock()
            if any(entry.name != "run.lock" for entry in out.iterdir()):
                raise RequestError(
                    f"{out} is not empty", f"nanocv train --resume {out} continues it; else choose another --out"
                )
        except OSError as error:
            raise StorageError(
                f"cannot write the run folder {out}: {error.strerror}", "choose another --out"
            ) from error
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
        if run.summary.is_file():
            raise RequestError(f"{path} is finished", "start a new run, with other --set values perhaps")
        return run

    def lock(self) -> None:
        """Takes the folder for this process until it ends, however it ends; taking it twice is taking it once.

        Raises:
            TrainingError: another training has it.
        """
        if self._lock is not None:
            return
        descriptor = os.open(self.path / "run.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            raise TrainingError(
                f"another training (process {owner or 'unknown'}) is writing {self.path}",
                "wait for it, or choose another --out",
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._lock = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        """Gives the folder free."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def finish(self, summary: dict[str, Any]) -> None:
        """Writes `summary.json`: from now on the run counts as finished and can be found by its model's name."""
        write_json(self.summary, summary)
