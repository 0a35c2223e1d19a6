"""A graph in this very process: latency and throughput over batch sizes and threads, without any server."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from nanocv_cli.bench.statistics import nearest_rank
from nanocv_cli.engine.graph import Graph
from nanocv_cli.engine.sessions import CPU, Device

FEWEST_RUNS = 20
WARM_RUNS = 3


@dataclass(frozen=True)
class ModelRow:
    """One graph at one batch size and number of threads.

    Attributes:
        model: the graph's file.
        precision: of its weights.
        batch_size: images per run.
        threads: ONNX Runtime's intra-op threads.
        device: where it ran.
        p50_us: median time of a run.
        p99_us: nearest-rank 99th percentile of it.
        throughput: images per second at the median.
        runs: how many were timed.
        bytes: of the file.
        metrics: on the held-out split, from the model card.
    """

    model: str
    precision: str
    batch_size: int
    threads: int
    device: str
    p50_us: float
    p99_us: float
    throughput: float
    runs: int
    bytes: int
    metrics: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """All by name."""
        return asdict(self)


def bench_model(
    graphs: Sequence[Path],
    batch_sizes: Sequence[int],
    threads: Sequence[int],
    rounds: int,
    round_seconds: float,
    progress: Callable[[int, int], None],
    device: Device = CPU,
) -> list[ModelRow]:
    """Times every combination; in each round all take their turn, so that a noisy moment falls on all alike.

    Args:
        graphs: exported graphs.
        batch_sizes: images per run.
        threads: intra-op threads; 0 lets ONNX Runtime choose.
        rounds: turns that each combination gets.
        round_seconds: length of a turn.
        progress: told (turns done, turns in all).
        device: where all of them run.

    Raises:
        ModelError: a graph cannot be loaded or fails.
        RequestError: a batch is more than this machine's memory takes.
    """
    runners = {(graph, count): Graph(graph, count, device) for graph, count in product(graphs, threads)}
    cases = [(graph, count, size) for graph, count, size in product(graphs, threads, batch_sizes)]
    for runner in {graph: runners[graph, threads[0]] for graph in graphs}.values():
        runner.example(max(batch_sizes))  # says no before an hour of smaller ones
    times: dict[tuple[Path, int, int], list[int]] = {case: [] for case in cases}
    done = 0
    for _ in range(rounds):
        for case in cases:
            graph, count, size = case
            runner = runners[graph, count]
            graph_inputs = runner.example(size)
            for _ in range(WARM_RUNS):
                runner.answer(graph_inputs)
            times[case] += _timed(runner, graph_inputs, round_seconds, -(-FEWEST_RUNS // rounds))
            done += 1
            progress(done, rounds * len(cases))
    rows = []
    for graph, count, size in cases:
        found, card = np.array(times[graph, count, size], np.int64), runners[graph, count].card
        median = nearest_rank(found, 0.5)
        rows.append(
            ModelRow(
                model=str(graph),
                precision=card.precision,
                batch_size=size,
                threads=count,
                device=device.name,
                p50_us=median / 1e3,
                p99_us=nearest_rank(found, 0.99) / 1e3,
                throughput=size * 1e9 / median,
                runs=len(found),
                bytes=graph.stat().st_size,
                metrics=card.metrics,
            )
        )
    return rows


def _timed(runner: Graph, graph_inputs: Mapping[str, Any], seconds: float, fewest: int) -> list[int]:
    """Nanoseconds of each run, for at least `seconds` and `fewest` runs."""
    found: list[int] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found) < fewest:
        start = time.perf_counter_ns()
        runner.answer(graph_inputs)
        found.append(time.perf_counter_ns() - start)
    return found
