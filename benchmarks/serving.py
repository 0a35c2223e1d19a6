"""One graph served in several ways, in turn in one run: a bare ONNX Runtime loop, the embedded server, a real Triton.

    python benchmarks/serving.py --model lenet --threads 1 --max-batch 1

All run the same graph with the same number of ONNX Runtime threads on this machine; the servers are loaded by
nanocv's own client at a concurrency of 4. The figures are medians over rounds in which all take their turn.
At one instance without batching, two more answer the same request bytes by the least code there is (`bare_infer.py`):
one under uvicorn (httptools, uvloop), one under the embedded server's own HTTP. Their ratio is that of the two HTTP
servers; what the embedded server is slower by than they are is the price of its checks, bounds, queue and counters.
Triton is left out where there is none (`make triton` prepares one on Linux). With --perf-analyzer FILE, NVIDIA's own
load generator measures the embedded server too, and the ratio of its throughput to ours is printed.
"""

import argparse
import contextlib
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime

from nanocv_cli.bench.load import HttpConnection
from nanocv_cli.bench.measure import Figures, Plan, measure
from nanocv_cli.bench.payload import as_http, build_payload
from nanocv_cli.bench.server_api import ServerApi
from nanocv_cli.bench.sweep import Target, run_sweep
from nanocv_cli.config.loader import resolve_serve
from nanocv_cli.config.project import project_root
from nanocv_cli.engine.reference import find_graph
from nanocv_cli.errors import ServingError
from nanocv_cli.serving.launch import free_ports, serving, stop

BARE_SECONDS = 1.5


def bare_loop(graph: Path, threads: int) -> float:
    """Runs per second of a loop that does nothing else, at batch 1 and ONNX Runtime's defaults."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    image = np.random.default_rng(0).integers(0, 256, (1, *entry.shape[1:]), np.uint8)
    for _ in range(10):
        session.run(None, {entry.name: image})
    start, runs = time.perf_counter(), 0
    while time.perf_counter() - start < BARE_SECONDS:
        session.run(None, {entry.name: image})
        runs += 1
    return runs / (time.perf_counter() - start)


@contextlib.contextmanager
def bare_infer(http: str, graph: Path, threads: int) -> Iterator[str]:
    """Serves a graph by `bare_infer.py` behind `uvicorn` or our `own http`; yields `host:port`."""
    app, host, port = Path(__file__).with_name("bare_infer.py"), "127.0.0.1", free_ports().http
    command = [sys.executable, str(app), str(port)]
    if http == "uvicorn":
        options = ["--http", "httptools", "--loop", "uvloop", "--no-access-log", "--log-level", "warning"]
        place = ["--app-dir", str(app.parent), "--host", host, "--port", str(port)]
        command = [sys.executable, "-m", "uvicorn", "bare_infer:app", *place, *options]
    process = subprocess.Popen(command, env={**os.environ, "BARE_GRAPH": str(graph), "BARE_THREADS": str(threads)})
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
                break
            time.sleep(0.05)
        yield f"{host}:{port}"
    finally:
        stop(process)


def perf_analyzer(program: str, target: Target) -> tuple[float, float]:
    """Throughput and p99 (usec) by NVIDIA's program."""
    command = [program, "-m", target.model, "-u", target.api.address, "-i", "http"]
    options = ["--concurrency-range", "4", "--percentile", "99", "-p", "2000"]
    text = subprocess.run([*command, *options], capture_output=True, text=True, check=True, timeout=300).stdout
    found = re.search(r"Throughput: ([\d.]+)", text), re.search(r"p99 latency: (\d+)", text)
    assert found[0] and found[1], text
    return float(found[0][1]), float(found[1][1])


def main() -> None:
    """Prints the table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-batch", type=int, default=1)
    parser.add_argument("--queue-delay-us", type=int, default=0)
    parser.add_argument("--instances", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--perf-analyzer")
    arguments = parser.parse_args()
    graph = find_graph(arguments.model, project_root())
    options = {key: getattr(arguments, key) for key in ("threads", "max_batch", "queue_delay_us", "instances")}
    plan = Plan(concurrency=4, rows=1, warmup_s=0.5, window_s=1.0, most_windows=3)
    bare: list[float] = []
    measured: dict[str, list[Figures]] = {}
    analyzed: list[tuple[float, float]] = []
    with contextlib.ExitStack() as running:
        targets = {}
        for engine, backend in (("embedded", "onnxruntime"), ("triton", "python")):
            settings = resolve_serve(None, {**options, "backend": backend})
            try:
                server, name = running.enter_context(serving(graph, settings, engine))
            except ServingError as error:
                print(f"{engine} left out: {error.message}")
                continue
            targets[engine] = Target(ServerApi(server.http), name, "http", server.grpc)
        bare_servers = {}
        if arguments.max_batch == arguments.instances == 1:
            embedded = targets["embedded"]
            metadata = embedded.api.metadata(embedded.model)
            payload = build_payload(metadata, embedded.model, plan.rows, "random", {}, batched=True)
            for http in ("own http", "uvicorn"):
                address = running.enter_context(bare_infer(http, graph, arguments.threads))
                bare_servers[http] = partial(HttpConnection, address, as_http(payload, address))
        for _ in range(arguments.rounds):
            bare.append(bare_loop(graph, arguments.threads))
            for engine, target in targets.items():
                rows = run_sweep(target, None, plan, "random", {}, lambda done, total, what: None)
                measured.setdefault(engine, []).append(rows[0].figures)
            for http, connect in bare_servers.items():
                measured.setdefault(http, []).append(measure(connect, plan, lambda: None))
            if arguments.perf_analyzer:
                analyzed.append(perf_analyzer(arguments.perf_analyzer, targets["embedded"]))
    print(
        f"{graph.name}, {arguments.threads} threads, max batch {arguments.max_batch}, "
        f"delay {arguments.queue_delay_us} us, {arguments.instances} instances, concurrency 4"
    )
    bare_rate = statistics.median(bare)
    print(f"{'bare loop':>16}  {bare_rate:6.0f} inf/s")
    rates = {}
    for engine, found in measured.items():
        rates[engine] = statistics.median(one.throughput for one in found)
        p50, p99 = (statistics.median(getattr(one, key) for one in found) for key in ("p50_us", "p99_us"))
        print(
            f"{engine:>16}  {rates[engine]:6.0f} inf/s  p50 {p50:6.0f} us  p99 {p99:6.0f} us  p99/p50 {p99 / p50:.2f}"
        )
    print(f"embedded / bare loop  {rates['embedded'] / bare_rate:.2f}")
    for ours, other in (("embedded", "triton"), ("embedded", "uvicorn"), ("own http", "uvicorn")):
        if other in rates:
            print(f"{ours} / {other:<11} {rates[ours] / rates[other]:.2f}")
    if analyzed:
        ours = [(one.throughput, one.p99_us) for one in measured["embedded"]]
        for place, what in enumerate(("throughput", "p99")):
            ratio = statistics.median(a[place] for a in analyzed) / statistics.median(o[place] for o in ours)
            print(f"perf_analyzer / ours  {what} {ratio:.3f}")


if __name__ == "__main__":
    main()
