"""A graph in this very process: latency and throughput over engines, batch sizes and threads, without any server."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from nanocv_cli.bench.report import Choice
from nanocv_cli.bench.statistics import nearest_rank
from nanocv_cli.bench.taken import sha256_of
from nanocv_cli.config.project import cache_folder, project_root
from nanocv_cli.engine.engine import Engine, graph_bytes
from nanocv_cli.engine.reference import reduced_beside
from nanocv_cli.engine.runtimes import (
    FP32,
    OPENVINO_FILE,
    RUNTIMES,
    RunSettings,
    find_runtime,
    open_in_process,
    readers,
)
from nanocv_cli.errors import RequestError

FEWEST_RUNS = 20
WARM_RUNS = 3


@dataclass(frozen=True)
class ModelRow:
    """One graph on one engine at one batch size and number of threads.

    Attributes:
        model: the graph's file.
        name: of the model, from its card.
        engine: what ran it.
        precision: what it was computed in.
        batch_size: images per run.
        threads: of the engine.
        device: where it ran.
        p50_us: median time of a run.
        p99_us: nearest-rank 99th percentile of it.
        throughput: images per second at the median.
        runs: how many were timed.
        bytes: of the file, or of all its files.
        sha256: of the file, hex digits.
        metrics: on the held-out split, from the model card.
        task, data, config_hash: of the model, from the card.
        split: that the metrics were measured on.
        before: the metrics in fp32 on that split, of a graph in less precision; else empty.
        drop: what the graph's precision cost of its task's score, from the card: points of a share, else percent; None
            where it is computed in less than the graph's own precision, which nobody has measured.
    """

    model: str
    name: str
    engine: str
    precision: str
    batch_size: int
    threads: int
    device: str
    p50_us: float
    p99_us: float
    throughput: float
    runs: int
    bytes: int
    sha256: str
    metrics: dict[str, Any]
    drop: float | None
    task: str
    data: str
    config_hash: str
    split: str
    before: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """All by name."""
        return asdict(self)


def run_settings(
    engines: Sequence[str], precisions: Sequence[str], threads: Sequence[int], device: str
) -> list[RunSettings]:
    """Each engine in each precision that it has, with each number of threads.

    Args:
        engines: names of `RUNTIMES`.
        precisions: to compute in.
        threads: 0 lets the engine choose.
        device: where all of them run.

    Raises:
        RequestError: an engine is not installed, or none has one of the precisions.
    """
    rows = {name: find_runtime(name) for name in engines}
    for precision in precisions:
        if not any(precision in row.precisions for row in rows.values()):
            able = ",".join(name for name, row in RUNTIMES.items() if precision in row.precisions)
            raise RequestError(f"{' and '.join(engines)} cannot compute in {precision}", f"--engines {able}")
    return [
        RunSettings(name, device, count, precision)
        for (name, row), precision, count in product(rows.items(), precisions, threads)
        if precision in row.precisions
    ]


def graph_beside(graph: Path, precision: str) -> Path:
    """The graph that `export` has written beside one in fp32, in less precision.

    Raises:
        RequestError: there is none.
    """
    beside = reduced_beside(graph, precision)
    if not beside.is_file():
        target = "openvino" if graph.suffix == OPENVINO_FILE else "onnx"
        raise RequestError(
            f"{graph} has no graph in {precision} beside it: no {beside.name}",
            f"nanocv export {target} --model REF --precision {precision} --out {beside} writes it; or name such a "
            "file: --model FILE",
        )
    return beside


def bench_model(
    wanted: Mapping[Path, Sequence[RunSettings]],
    batch_sizes: Sequence[int],
    rounds: int,
    round_seconds: float,
    progress: Callable[[int, int], None],
    say: Callable[[str], None],
) -> list[ModelRow]:
    """Times every combination; in each round all take their turn, so that a noisy moment falls on all alike.

    Args:
        wanted: exported graphs, and how to run each of them; an engine passes over what it does not read.
        batch_sizes: images per run.
        rounds: turns that each combination gets.
        round_seconds: length of a turn.
        progress: told (turns done, turns in all).
        say: told of the settings that this machine cannot run a graph by, where it can by others.

    Raises:
        ModelError: a graph cannot be loaded or fails.
        RequestError: a batch is more than this machine's memory takes, or no engine can do as the settings say.
    """
    cache = cache_folder(project_root())
    runners: dict[tuple[Path, RunSettings], Engine] = {}
    for graph, settings in wanted.items():
        # Where none of the engines reads it, the first one says so.
        opened = _opened(graph, [one for one in settings if one.runtime in readers(graph)] or settings[:1], cache, say)
        next(iter(opened.values())).example(max(batch_sizes))  # says no before an hour of smaller ones
        runners |= {(graph, one): runner for one, runner in opened.items()}
    cases = [(*runner, size) for runner, size in product(runners, batch_sizes)]
    hashes = {graph: sha256_of(graph) for graph in wanted}
    times: dict[tuple[Path, RunSettings, int], list[int]] = {case: [] for case in cases}
    done = 0
    for _ in range(rounds):
        for case in cases:
            graph, one, size = case
            runner = runners[graph, one]
            graph_inputs = runner.example(size)
            for _ in range(WARM_RUNS):
                runner.answer(graph_inputs)
            times[case] += _timed(runner, graph_inputs, round_seconds, -(-FEWEST_RUNS // rounds))
            done += 1
            progress(done, rounds * len(cases))
    rows = []
    for graph, one, size in cases:
        found, runner = np.array(times[graph, one, size], np.int64), runners[graph, one]
        median = nearest_rank(found, 0.5)
        rows.append(
            ModelRow(
                model=str(graph),
                name=runner.card.name,
                engine=runner.runtime,
                precision=runner.card.precision if one.precision == FP32 else one.precision,
                batch_size=size,
                threads=one.threads,
                device=runner.device,
                p50_us=median / 1e3,
                p99_us=nearest_rank(found, 0.99) / 1e3,
                throughput=size * 1e9 / median,
                runs=len(found),
                bytes=graph_bytes(graph),
                sha256=hashes[graph],
                metrics=runner.card.metrics,
                drop=float(runner.card.cost.get("drop", 0.0)) if one.precision == FP32 else None,
                task=runner.card.task,
                data=runner.card.data,
                config_hash=runner.card.config_hash,
                split=runner.card.split,
                before=before if isinstance(before := runner.card.cost.get("before"), dict) else {},
            )
        )
    return rows


def _opened(
    graph: Path, settings: Sequence[RunSettings], cache: Path, say: Callable[[str], None]
) -> dict[RunSettings, Engine]:
    """A graph by each setting that this machine can run it by; what it cannot is told once for each engine."""
    opened: dict[RunSettings, Engine] = {}
    refused: dict[tuple[str | None, str], RequestError] = {}
    for one in settings:
        try:
            opened[one] = open_in_process(graph, one, cache)
        except RequestError as error:
            refused.setdefault((one.runtime, one.precision), error)
    if not opened:
        raise next(iter(refused.values()))
    for (runtime, precision), reason in refused.items():
        say(f"{runtime} {precision} is left out: {reason.message}")
    return opened


def choose_row(rows: Sequence[ModelRow], max_drop: float, slo_p99_us: float | None) -> Choice:
    """The row with the highest throughput of those that gave up little for it; none of several models' rows.

    Args:
        rows: measured.
        max_drop: the most that a graph's precision may have cost.
        slo_p99_us: the highest p99 allowed; None: any.
    """
    if len({row.name for row in rows}) > 1:
        return Choice(None, "several models are compared")
    rule = f"highest throughput of what was measured to lose at most {max_drop:g} of its metric"
    if slo_p99_us is not None:
        rule += f", with p99 of at most {slo_p99_us:.0f} us"
    fitting = [
        (row.throughput, -number)
        for number, row in enumerate(rows)
        if row.drop is not None and row.drop <= max_drop and (slo_p99_us is None or row.p99_us <= slo_p99_us)
    ]
    return Choice(-max(fitting)[1] if fitting else None, rule if fitting else f"{rule}: there is none")


def _timed(runner: Engine, graph_inputs: Mapping[str, Any], seconds: float, fewest: int) -> list[int]:
    """Nanoseconds of each run, for at least `seconds` and `fewest` runs."""
    found: list[int] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found) < fewest:
        start = time.perf_counter_ns()
        runner.answer(graph_inputs)
        found.append(time.perf_counter_ns() - start)
    return found
