"""One, two and four instances of a model on the embedded server, by each engine: throughput and p99, as ratios.

    python -m benchmarks.instances [--model REF] [--max-batch 4] [--concurrency 8] [--rounds 3]

`divided` is what the server does where an entry names no threads: its instances share the processors. With `all` each
instance has as many threads as there are processors. One server holds all of them, and they are asked in turn, so that
whatever else the machine does meets all alike; medians are compared with those of one instance of the same engine.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nanocv_cli.bench.measure import Figures, Plan
from nanocv_cli.bench.server_api import ServerApi
from nanocv_cli.bench.sweep import Target, run_sweep
from nanocv_cli.config.loader import resolve_serve
from nanocv_cli.config.project import project_root
from nanocv_cli.engine.reference import find_graph
from nanocv_cli.engine.runtimes import RUNTIMES
from nanocv_cli.errors import NanocvError
from nanocv_cli.machine import processor_name, usable_processors
from nanocv_cli.serving.launch import started
from nanocv_cli.serving.repository.entry import write_entry

INSTANCES = (1, 2, 4)
DIVIDED, ALL = "divided", "all"


@dataclass(frozen=True)
class Case:
    """One way of serving the graph."""

    engine: str
    instances: int
    threads: str

    @property
    def name(self) -> str:
        """Of its entry."""
        return f"{self.engine}-{self.instances}-{self.threads}"


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="REF")
    parser.add_argument("--max-batch", type=int, default=4)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    plan = Plan(arguments.concurrency, rows=1, warmup_s=0.3, window_s=0.5, most_windows=3)
    try:
        graph = find_graph(arguments.model, project_root())
        measured = measure_all(graph, arguments.max_batch, plan, arguments.rounds)
    except NanocvError as error:
        sys.exit(f"error: {error.message}\n  try: {error.hint}")
    sys.stdout.write(
        f"{graph.name}, {processor_name()}, {usable_processors()} processors, max batch {arguments.max_batch}, "
        f"concurrency {arguments.concurrency}\n"
        f"{'engine':12}{'instances':>10}  {'threads':8}{'inf/s':>7}  throughput  p99\n"
    )
    for case, found in measured.items():
        base = measured[Case(case.engine, 1, DIVIDED)]
        rate, p99 = (_median(found, key) / _median(base, key) for key in ("throughput", "p99_us"))
        sys.stdout.write(
            f"{case.engine:12}{case.instances:>10}  {case.threads:8}{_median(found, 'throughput'):7.0f}  "
            f"{rate:10.2f}  {p99:.2f}\n"
        )


def cases() -> Iterator[Case]:
    """All that are measured: a single instance has all processors anyway."""
    for engine, row in RUNTIMES.items():
        for count in INSTANCES if row.is_installed else ():
            for threads in (DIVIDED, ALL) if count > 1 else (DIVIDED,):
                yield Case(engine, count, threads)


def measure_all(graph: Path, max_batch: int, plan: Plan, rounds: int) -> dict[Case, list[Figures]]:
    """The figures of each case, one of each round."""
    found: dict[Case, list[Figures]] = {case: [] for case in cases()}
    with tempfile.TemporaryDirectory(prefix="nanocv-instances-") as folder:
        for case in found:
            options = {
                "backend": case.engine,
                "max_batch": max_batch,
                "queue_delay_us": 0,
                "instances": case.instances,
                "threads": usable_processors() if case.threads == ALL else 0,
            }
            write_entry(graph, Path(folder), resolve_serve(None, options, ()), case.name)
        with started(Path(folder), "embedded") as server:
            for _ in range(rounds):
                for case, figures in found.items():
                    target = Target(ServerApi(server.http), case.name, "http", server.grpc)
                    rows = run_sweep(target, None, plan, "random", {}, lambda done, total, what: None)
                    figures.append(rows[0].figures)
    return found


def _median(figures: list[Figures], key: str) -> float:
    return statistics.median(float(getattr(one, key)) for one in figures)


if __name__ == "__main__":
    main()
