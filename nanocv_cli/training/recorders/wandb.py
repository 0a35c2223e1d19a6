"""Weights & Biases: its service where the user is logged in to it and it answers, else files for `wandb sync`.

`WANDB_MODE`, `WANDB_PROJECT`, `WANDB_ENTITY` and `WANDB_BASE_URL` are obeyed.
"""

import os
import shutil
from pathlib import Path
from typing import Any, Literal

import wandb

from nanocv_cli.training.recorders.tracker import Outcome, Results, Row, Subject, Tracker, scalars

PROJECT = "nanocv"
SECONDS = 10.0  # that the service may take to answer at the beginning, and to take the rest at the end


class WandbRun(Tracker):
    """A run of Weights & Biases'; offline it lies in the run's folder `wandb`, rebuilt whenever it is told again."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._run: Any = None

    def begin(self) -> str:
        if self._run:
            wandb.teardown()  # after a failure; its process would hold the run's name
        mode = os.environ.get("WANDB_MODE") or "online"
        try:
            if mode == "online" and wandb.login(prompt=False, verify=False):
                self._run = self._init("online")
                return str(self._run.url)
        except wandb.errors.Error:
            wandb.teardown()  # its process would hold the run's name
        for earlier in (self.subject.folder / "wandb").glob(f"offline-run-*-{self.subject.identity}"):
            shutil.rmtree(earlier)
        self._run = self._init("offline")
        return f"offline: wandb sync {self._folder} sends it"

    def add_epoch(self, row: Row) -> None:
        if row["epoch"] >= self._run.step:  # the service has those before
            self._run.log(dict(scalars(row)), step=row["epoch"])

    def add_results(self, results: Results) -> None:
        self._run.summary.update(dict(results.scalars()))
        self._run.log({f"images/{path.stem}": wandb.Image(str(path)) for path in results.images}, step=results.epoch)

    def add_model(self, graph: Path, checkpoint: Path) -> None:
        for path in (graph, checkpoint):
            self._run.save(str(path), base_path=str(self.subject.folder), policy="now")

    def end(self, outcome: Outcome) -> str:
        try:
            self._run.finish(exit_code=0 if outcome == "finished" else 1)
        except TimeoutError:
            return f"not all was sent: wandb sync {self._folder} sends it"
        return ""

    @property
    def _folder(self) -> Path:
        return Path(self._run.settings.sync_dir)

    def _init(self, mode: Literal["online", "offline"]) -> wandb.Run:
        subject = self.subject
        settings = wandb.Settings(
            silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True, x_disable_meta=True,
            x_disable_machine_info=True, x_save_requirements=False, init_timeout=SECONDS, login_timeout=SECONDS,
            finish_timeout=SECONDS, finish_timeout_raises=True, reinit="create_new",
        )  # fmt: skip
        return wandb.init(
            mode=mode, dir=str(subject.folder.resolve()), id=subject.identity, name=subject.name, settings=settings,
            project=os.environ.get("WANDB_PROJECT") or PROJECT, config=subject.config.model_dump(mode="json"),
            resume="allow" if mode == "online" else None,
        )  # fmt: skip
