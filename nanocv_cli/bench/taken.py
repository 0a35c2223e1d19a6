"""What a load test's JSON says to use, taken over as settings of `nanocv serve config`."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanocv_cli.bench.baseline import LARGEST_FILE
from nanocv_cli.engine.runtimes import BF16, FP32, RUNTIMES
from nanocv_cli.errors import RequestError
from nanocv_cli.untrusted import first_line, open_regular, printable, read_regular

KINDS = {"cpu": "cpu", "cuda": "gpu"}  # of instances, by the device of a graph in a process
AGAIN = "nanocv bench model --json > FILE, or bench server, writes one"


@dataclass(frozen=True)
class Taken:
    """The row that was named as the one to use.

    Attributes:
        graph: that was measured, unchanged; None where a server of others was.
        settings: of `ServeConfig`, by name.
        rule: that the row was chosen by.
    """

    graph: Path | None
    settings: dict[str, Any]
    rule: str


def sha256_of(graph: Path) -> str:
    """Of a file, hex digits.

    Raises:
        OSError: it is no regular file, or cannot be read.
        ValueError: no file can have this path.
    """
    with open_regular(graph) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_choice(path: Path) -> Taken:
    """Reads what `bench model --json` or `bench server --json` printed, or a run's folder keeps of them.

    Raises:
        RequestError: it is no such file, names no row to use, or the graph that was measured is gone or another now.
    """
    try:
        document = json.loads(read_regular(path, LARGEST_FILE))
        number, rule = document["choice"]["row"], str(document["choice"]["rule"])
        if not (number is None or (type(number) is int and number >= 0)):
            raise ValueError(number)
        row = None if number is None else dict(document["rows"][number])
        taken = None if row is None else _of_server(row, document) if "max_batch" in row else _of_model(row)
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise RequestError(f"{path} is no result of a load test", AGAIN) from error
    if taken is None:
        raise RequestError(f"{path} names nothing to use: {printable(rule)}", "measure again with other limits")
    graph, sha256, settings = taken
    if graph is not None:
        _expect_unchanged(graph, sha256, path)
    return Taken(graph, settings, printable(rule))


def _of_model(row: dict[str, Any]) -> tuple[Path, str, dict[str, Any]]:
    """The graph's file and hash, and the settings, of a row of `bench model`."""
    engine, precision = row["engine"], row["precision"]
    if engine not in RUNTIMES:
        raise ValueError(engine)
    settings = {
        "backend": engine,
        # What a graph is in itself, such as int8, goes with the file.
        "precision": BF16 if precision == BF16 and BF16 in RUNTIMES[engine].precisions else FP32,
        "kind": KINDS[str(row["device"]).partition(":")[0]],
        "threads": row["threads"],
        "max_batch": row["batch_size"],
    }
    return Path(str(row["model"])), str(row["sha256"]), settings


def _of_server(row: dict[str, Any], document: dict[str, Any]) -> tuple[Path | None, str, dict[str, Any]]:
    """Likewise of a row of `bench server`, which knows the graph if it started the server."""
    settings = {key: row[key] for key in ("max_batch", "queue_delay_us", "instances") if row[key] is not None}
    served = document["served"]
    if served is None:
        return None, "", settings
    settings |= {key: served[key] for key in ("backend", "precision", "threads")}
    return Path(str(served["graph"])), str(served["sha256"]), settings


def _expect_unchanged(graph: Path, sha256: str, path: Path) -> None:
    try:
        found = sha256_of(graph)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise RequestError(
            f"{path} was measured with {graph}, which cannot be read: {reason}",
            "bring it back, or measure again",
        ) from error
    if found != sha256:
        raise RequestError(f"{path} was measured with another {graph} than there is now", "measure again")
