"""Throughput and latency from 1 to 256 clients, of the embedded server and of Triton, as one picture.

    python -m benchmarks.saturation [--model REF] [--max-batch 4] [--out saturation.png]

A server that is asked for more than it can do shall go on answering as many as it can: what its throughput falls by
beyond its best is printed. The servers have the first processor and the clients the second, where the system can pin
them (Linux). The rate of a bare loop on that processor is the dashed line.
"""

import argparse
import contextlib
import statistics
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.served import pinned, processors
from benchmarks.serving import TENSORS, BareLoop, Setting, of_server, say
from nanocv_cli.bench.measure import Figures, Plan
from nanocv_cli.bench.payload import build_payload
from nanocv_cli.bench.server_api import ServerApi
from nanocv_cli.config.loader import resolve_serve
from nanocv_cli.config.project import project_root
from nanocv_cli.engine.reference import find_graph
from nanocv_cli.errors import NanocvError
from nanocv_cli.files import expect_writable, save_chart
from nanocv_cli.machine import processor_name
from nanocv_cli.serving.launch import serving

CLIENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
Curve = list[Figures]


def curves(graph: Path, setting: Setting, rounds: int) -> tuple[dict[str, Curve], float]:
    """The figures of each server at each number of clients, of the median round by throughput, and the bare rate."""
    first, second = processors()
    options = {"threads": setting.threads, "max_batch": setting.max_batch, "queue_delay_us": setting.queue_delay_us}
    found: dict[str, list[list[Figures]]] = {}
    with contextlib.ExitStack() as running:
        ways = []
        with pinned(first):
            loop = BareLoop(graph, setting.threads, {1, setting.max_batch})
            for engine, backend in (("embedded", "onnxruntime"), ("triton", "python")):
                try:
                    served = serving(graph, resolve_serve(None, {**options, "backend": backend}), engine)
                    server, name = running.enter_context(served)
                except NanocvError as error:
                    say(f"{engine} left out: {error.message}")
                    continue
                payload = build_payload(ServerApi(server.http).metadata(name), name, 1, "random", {}, batched=True)
                ways += [way for way in of_server(engine, server, payload) if way.work == TENSORS]
        for clients in CLIENTS:
            # With many clients an answer takes long, and all have to be in their stride before it counts.
            plan = Plan(clients, rows=1, warmup_s=0.3 + clients / 150, window_s=0.3 + clients / 300, most_windows=3)
            for _ in range(rounds):
                with pinned(first):
                    loop.measure()
                with pinned(second):
                    for way in ways:
                        way.measure(plan)
            for way in ways:
                found.setdefault(way.name, []).append(way.figures[-rounds:])
    middle = {
        name: [sorted(point, key=lambda one: one.throughput)[len(point) // 2] for point in points]
        for name, points in found.items()
    }
    return middle, loop.rate


def draw(found: dict[str, Curve], bare: float, title: str, out: Path) -> None:
    """Throughput above, median and p99 below."""
    figure, (rate, latency) = plt.subplots(2, 1, figsize=(8, 8), sharex=True, layout="constrained")
    for name, points in found.items():
        rate.plot(CLIENTS, [one.throughput for one in points], marker="o", label=name)
        (line,) = latency.plot(CLIENTS, [one.p50_us / 1000 for one in points], marker="o", label=f"{name}, p50")
        p99 = [one.p99_us / 1000 for one in points]
        latency.plot(CLIENTS, p99, marker="^", linestyle=":", color=line.get_color(), label=f"{name}, p99")
    rate.axhline(bare, linestyle="--", color="grey", label="bare loop")
    rate.set(xscale="log", ylabel="images per second", ylim=(0, None), title=title)
    rate.legend(loc="lower center")
    latency.set(xscale="log", yscale="log", xlabel="clients", ylabel="milliseconds")
    latency.set_xticks(CLIENTS, [str(clients) for clients in CLIENTS])
    latency.minorticks_off()
    latency.legend(loc="upper left", fontsize="small", ncols=2)
    save_chart(figure, out)


def main() -> None:
    """Prints the curves and draws them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--max-batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("saturation.png"))
    given = parser.parse_args()
    try:
        expect_writable(given.out)
        graph = find_graph(given.model, project_root())
    except NanocvError as error:
        sys.exit(f"error: {error.message}\n  try: {error.hint}")
    setting = Setting(1, given.max_batch, pin=True)
    found, bare = curves(graph, setting, given.rounds)
    say(f"{graph.name}, {processor_name()}, 1 thread, batches of up to {given.max_batch}; bare loop {bare:.0f} img/s")
    say(f"{'clients':>16}" + "".join(f"{clients:7}" for clients in CLIENTS))
    for name, points in found.items():
        rates = [one.throughput for one in points]
        say(f"{name:>16}" + "".join(f"{one:7.0f}" for one in rates))
        say(f"{'p99/p50':>16}" + "".join(f"{one.p99_us / one.p50_us:7.2f}" for one in points))
        errors = sum(one.errors for one in points)
        beyond = statistics.mean(rates[-2:]) / max(rates)
        say(f"{'':>16}  128 and 256 clients / the best: {beyond:.2f}; {errors} errors")
    title = f"{graph.stem}, 1 thread, batches of up to {given.max_batch}, one processor\n{processor_name()}"
    draw(found, bare, title, given.out)
    say(f"image: {given.out}")


if __name__ == "__main__":
    main()
