"""What the embedded server keeps of an engine's pace: its throughput over that of a bare loop of the same engine.

    python -m benchmarks.served [--model REF] [--int8 FILE] [--batch-sizes 1,8] [--rounds 5]

The server, and the loop, have the first processor that this process may use, the clients another, where the system can
pin them (Linux); all take turns, and medians are compared. `work` is the same ratio by processor time of an image: on a
machine with other work it says more, for a server has more threads than a loop to get processors with. The loop
answers batches of a size one after the other; the server makes batches of at most that size of single images, which
twice as many clients, at least four, ask for.
"""

import argparse
import contextlib
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from nanocv_cli.bench.measure import Plan
from nanocv_cli.bench.server_api import ServerApi
from nanocv_cli.bench.sweep import Target, run_sweep
from nanocv_cli.config.loader import resolve_serve
from nanocv_cli.config.project import cache_folder, project_root
from nanocv_cli.engine.engine import Engine
from nanocv_cli.engine.reference import find_graph
from nanocv_cli.engine.runtimes import RUNTIMES, RunSettings, open_in_process
from nanocv_cli.errors import NanocvError
from nanocv_cli.machine import processor_name
from nanocv_cli.serving.launch import serving

SECONDS = 0.8


@dataclass(frozen=True)
class Pace:
    """Images per second, and per second of processor time."""

    rate: float
    per_work: float


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="REF")
    parser.add_argument("--int8", metavar="FILE", type=Path, help="the model's graph in int8")
    parser.add_argument("--batch-sizes", default="1,8")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    try:
        graph = find_graph(arguments.model, project_root())
        sys.stdout.write(
            f"{graph.name}, {processor_name()}, 1 thread\n"
            f"{'engine':12}{'graph':>6}{'batch':>6}  served / bare      work\n"
        )
        for batch in map(int, arguments.batch_sizes.split(",")):
            for name, file, engine in variants(graph, arguments.int8):
                bare, served = by_turns(file, engine, batch, arguments.rounds)
                rates = f"{served.rate:.0f} / {bare.rate:.0f} = {served.rate / bare.rate:.2f}"
                sys.stdout.write(f"{engine:12}{name:>6}{batch:>6}  {rates:18} {served.per_work / bare.per_work:.2f}\n")
                sys.stdout.flush()
    except NanocvError as error:
        sys.exit(f"error: {error.message}\n  try: {error.hint}")


def variants(graph: Path, int8: Path | None) -> Iterator[tuple[str, Path, str]]:
    """Graphs and what runs them: name, file, engine."""
    for engine, row in RUNTIMES.items():
        if row.is_installed:
            yield "fp32", graph, engine
            if int8:
                yield "int8", int8, engine


def by_turns(graph: Path, engine: str, batch: int, rounds: int) -> tuple[Pace, Pace]:
    """The median paces of the bare loop and of the server."""
    first, second = processors()
    options = {"backend": engine, "max_batch": batch, "queue_delay_us": 0, "threads": 1}
    plan = Plan(max(4, 2 * batch), rows=1, warmup_s=0.3, window_s=0.3, most_windows=3)
    bare: list[Pace] = []
    served: list[Pace] = []
    with pinned(first):  # threads and processes that begin here stay here
        loop = open_in_process(graph, RunSettings(engine, "cpu", 1), cache_folder(project_root()))
        context = serving(graph, resolve_serve(None, options, ()), "embedded")
        server, name = context.__enter__()
    try:
        target = Target(ServerApi(server.http), name, "http", server.grpc)
        for _ in range(rounds):
            with pinned(first):
                bare.append(pace_of_loop(loop, batch))
            with pinned(second):
                served.append(pace_of_server(target, plan, server.pid))
    finally:
        context.__exit__(None, None, None)
    return median(bare), median(served)


def median(paces: list[Pace]) -> Pace:
    """Of each figure."""
    return Pace(*(statistics.median(getattr(one, key) for one in paces) for key in ("rate", "per_work")))


def pace_of_server(target: Target, plan: Plan, pid: int) -> Pace:
    """Under load; the processor time is that of the whole process, warm-up included, over all that it answered."""
    process, counted = psutil.Process(pid), target.api.counters(target.model, "1")
    before = process.cpu_times()
    rows = run_sweep(target, None, plan, "random", {}, lambda done, total, what: None)
    after, now = process.cpu_times(), target.api.counters(target.model, "1")
    assert counted and now
    work = after.user + after.system - before.user - before.system
    return Pace(rows[0].figures.throughput, (now.inferences - counted.inferences) / work)


def pace_of_loop(engine: Engine, batch: int) -> Pace:
    """A loop that does nothing else."""
    graph_inputs = engine.example(batch)
    for _ in range(3):
        engine.answer(graph_inputs)
    start, worked, runs = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < SECONDS:
        engine.answer(graph_inputs)
        runs += 1
    images = batch * runs
    return Pace(images / (time.perf_counter() - start), images / (time.process_time() - worked))


def processors() -> tuple[int | None, int | None]:
    """One for the server and one for the clients; None where this system pins nothing, or there is only one."""
    there = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (there[0], there[1]) if len(there) > 1 else (None, None)


@contextlib.contextmanager
def pinned(processor: int | None) -> Iterator[None]:
    """This thread, and what it starts meanwhile, on one processor."""
    if processor is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


if __name__ == "__main__":
    main()
