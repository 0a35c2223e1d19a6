"""What trackers' libraries left behind, read back: values by step, and files."""

import json
import struct
import time
from pathlib import Path
from typing import Any

Curves = dict[str, list[tuple[int, float]]]
BLOCK = 32_768  # bytes of LevelDB's log, which W&B writes


def tensorboard_curves(folder: Path) -> tuple[Curves, list[str]]:
    """Each scalar as TensorBoard shows it, and the names of images."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    tags = events.Tags()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags["scalars"]}, tags["images"]


def mlflow_run(uri: str) -> tuple[Any, Curves]:
    """The one run of the experiment `nanocv`, and its metrics."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("nanocv")
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id])
    histories = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
    return run, {key: [(metric.step, metric.value) for metric in found] for key, found in histories.items()}


def wandb_records(folder: Path) -> list[Any]:
    """The records of the one offline run in a folder; its own process may take a moment to write the last of them."""
    (path,) = folder.glob("offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 60
    while not (records := _records(path.read_bytes())) or not records[-1].HasField("exit"):
        assert time.monotonic() < deadline, "the run was not ended"
        time.sleep(0.01)
    return records


def _records(content: bytes) -> list[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    records, parts, place = [], [], 7  # after the file's own header
    while place + 7 <= len(content):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        if place + 7 + length > len(content):
            break
        parts.append(content[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            records.append(Record.FromString(b"".join(parts)))
            parts = []
    return records


def wandb_curves(folder: Path) -> Curves:
    """The one offline run's history."""
    curves: Curves = {}
    for record in wandb_records(folder):
        row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for key, value in row.items():
            if isinstance(value, int | float) and not key.startswith("_"):
                curves.setdefault(key, []).append((record.history.step.num, value))
    return curves
