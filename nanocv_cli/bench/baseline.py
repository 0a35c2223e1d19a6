"""Figures kept: to compare later ones with, and in the run that they are of, for its report."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from nanocv_cli.bench.sweep import Row
from nanocv_cli.engine.reference import run_of
from nanocv_cli.errors import NanocvError, RequestError
from nanocv_cli.files import write_json
from nanocv_cli.output import finite, say
from nanocv_cli.untrusted import read_regular

# Higher is better for the first, lower for the others; the first two decide.
COMPARED = ("throughput", "p99_us", "p50_us")
DECIDING = COMPARED[:2]
LARGEST_FILE = 16 << 20  # bytes
OF_MODEL, OF_SERVER = "bench-model.json", "bench-server.json"  # in a run folder
KEYS = ("max_batch", "queue_delay_us", "instances", "concurrency")


@dataclass(frozen=True)
class Change:
    """One figure of one configuration, now over then."""

    configuration: dict[str, Any]
    figure: str
    ratio: float
    worse: bool


def save(path: Path, conditions: dict[str, Any], rows: Sequence[Row]) -> None:
    """Keeps the figures, atomically.

    Args:
        path: `.json` to write.
        conditions: what else the figures depend on (model, protocol, rows per request, rate).

    Raises:
        StorageError: it cannot be written.
    """
    write_json(path, {"conditions": conditions, "rows": [row.to_json() for row in rows]})


def keep_in_run(graph: Path, name: str, document: dict[str, Any]) -> None:
    """Keeps what was measured of a run's graph in its folder, in place of what was kept there before.

    A graph that lies in no run leaves no file, and a folder that cannot be written to is said: what was measured has
    been told all the same.

    Args:
        graph: that was measured.
        name: `OF_MODEL` or `OF_SERVER`.
        document: what the command prints as JSON.
    """
    run = run_of(graph)
    if run is None:
        return
    try:
        write_json(run / name, finite(document | {"when": datetime.now().isoformat(timespec="seconds")}))
    except NanocvError as error:
        say(f"warning: not kept for the report of {run}: {error.message}")


def read(path: Path) -> tuple[dict[str, Any], dict[tuple[Any, ...], list[float]]]:
    """What `save` wrote: the conditions, and by configuration the figures that are compared.

    Raises:
        RequestError: the file is missing or no baseline.
    """
    try:
        document = json.loads(read_regular(path, LARGEST_FILE))
        conditions, rows = dict(document["conditions"]), document["rows"]
        figures = {_key(row): [float(row[figure]) for figure in COMPARED] for row in rows}
        if not all(math.isfinite(figure) and figure > 0 for row in figures.values() for figure in row):
            raise ValueError("a figure that cannot be")
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise RequestError(f"{path} is no baseline", "write one: nanocv bench server --save-baseline FILE") from error
    return conditions, figures


def compare(path: Path, conditions: dict[str, Any], rows: Sequence[Row], tolerance: float) -> list[Change]:
    """Now against then, for every configuration that both have.

    Args:
        path: written by `save`.
        conditions: of the present figures; they must be the same.
        rows: the present figures.
        tolerance: by how much a figure may be worse.

    Raises:
        RequestError: the file is missing or no baseline, was measured differently, or shares no configuration.
    """
    former, numbers = read(path)
    differing = [key for key in sorted({*former, *conditions}) if former.get(key) != conditions.get(key)]
    if differing:
        key = differing[0]
        raise RequestError(
            f"{path} was measured with {key} {former.get(key)}, this with {conditions.get(key)}",
            "compare like with like, or save another baseline",
        )
    changes = []
    for row in rows:
        now = row.to_json()
        for figure, before in zip(COMPARED, numbers.get(_key(now), []), strict=False):
            ratio = float(now[figure]) / before  # type: ignore[arg-type]
            worse = ratio < 1 - tolerance if figure == "throughput" else ratio > 1 + tolerance
            changes.append(Change({key: now[key] for key in KEYS}, figure, ratio, worse and figure in DECIDING))
    if not changes:
        raise RequestError(f"{path} holds none of the configurations measured here", "save another baseline")
    return changes


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in KEYS)
