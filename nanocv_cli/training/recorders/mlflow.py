"""MLflow: a tracking server, or files that `mlflow ui` shows.

The server is that of `MLFLOW_TRACKING_URI`, the experiment that of `MLFLOW_EXPERIMENT_NAME`; without them it is the
experiment `nanocv` in the project's folder `mlruns`.
"""

import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from nanocv_cli.config.located import flatten
from nanocv_cli.training.recorders.tracker import Outcome, Results, Row, Tracker, scalars

EXPERIMENT = "nanocv"
IDENTITY = "nanocv.run"  # the tag by which a run is found again
LONGEST_VALUE = 500  # characters, which servers of every version take; the whole config is among the files
STATUS: dict[Outcome, str] = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MlflowRun(Tracker):
    """A run of MLflow's; metrics are recorded once for each step, whatever was lost on the way."""

    def begin(self) -> str:
        for name in ("mlflow", "urllib3"):  # they would tell of every request that failed
            logging.getLogger(name).setLevel(logging.CRITICAL)
        files = (self.subject.root.resolve() / "mlruns").as_uri()
        uri = os.environ.get("MLFLOW_TRACKING_URI") or files
        self._client = MlflowClient(tracking_uri=uri)
        experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT)
        known = self._client.search_runs([experiment], f"tags.`{IDENTITY}` = '{self.subject.identity}'")
        run = (
            known[0]
            if known
            else self._client.create_run(experiment, run_name=self.subject.name, tags={IDENTITY: self.subject.identity})
        )
        self._run = run.info.run_id
        self._client.update_run(self._run, status="RUNNING")
        self._recorded = {
            key: {metric.step for metric in self._client.get_metric_history(self._run, key)} for key in run.data.metrics
        }
        config = flatten(self.subject.config.model_dump(mode="json"))
        params = [Param(key, str(value)[:LONGEST_VALUE]) for key, value in config.items()]
        self._client.log_batch(self._run, params=[param for param in params if param.key not in run.data.params])
        self._add_file(self.subject.folder / "config.yaml", "")
        address = urlsplit(uri)
        place = address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()  # without a password
        if address.scheme in ("http", "https"):
            return f"{place.rstrip('/')}/#/experiments/{experiment}/runs/{self._run}"
        return f"run {self._run} in {place}"

    def add_epoch(self, row: Row) -> None:
        self._add(scalars(row), row["epoch"], row.get("time") or time.time())

    def add_results(self, results: Results) -> None:
        self._add(results.scalars(), results.epoch, time.time())
        for path in results.images:
            self._add_file(path, "images")

    def add_model(self, graph: Path, checkpoint: Path) -> None:
        for path in (graph, checkpoint):
            self._add_file(path, "model")

    def end(self, outcome: Outcome) -> str:
        self._client.set_terminated(self._run, STATUS[outcome])
        return ""

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def _add(self, values: Iterable[tuple[str, float]], step: int, when: float) -> None:
        metrics = [
            Metric(key, value, int(when * 1000), step)
            for key, value in values
            if step not in self._recorded.get(key, ())
        ]
        if metrics:
            self._client.log_batch(self._run, metrics=metrics)

    def _add_file(self, path: Path, folder: str) -> None:
        self._client.log_artifact(self._run, str(path), folder or None)
