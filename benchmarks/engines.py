"""How much faster than ONNX Runtime in fp32 other engines and precisions answer, as ratios.

    python benchmarks/engines.py [--model REF ...] [--int8 FOLDER] [--batch-sizes 1,8] [--threads 2] [--rounds 9]

All variants of a model run by turns, so that whatever else the machine does meets all alike; medians are compared, and
more than 1 is faster. bf16 is left out where the processor has none. A folder may hold graphs that `nanocv export onnx
--precision int8` wrote, `<model>-int8.onnx` each.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

from nanocv_cli.config.project import cache_folder, project_root
from nanocv_cli.engine.engine import Engine
from nanocv_cli.engine.reference import find_graph
from nanocv_cli.engine.runtimes import RUNTIMES, RunSettings, open_in_process
from nanocv_cli.errors import NanocvError
from nanocv_cli.machine import processor_name

MODELS = ("lenet-flowers", "nanospot-flowers", "nanoseg-flowers", "nanoflow-flowers")
Variants = dict[str, Engine]


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="REF", action="append", help=f"default: {', '.join(MODELS)}")
    parser.add_argument("--int8", metavar="FOLDER", type=Path, help="of graphs in int8")
    parser.add_argument("--batch-sizes", default="1,8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    say(f"{processor_name()}, {arguments.threads} threads, medians of {arguments.rounds}")
    told: set[str] = set()
    say(f"{'model':18}{'batch':>6}{'fp32 ms':>9}   ratios to it")
    for ref in arguments.model or MODELS:
        try:
            graph = find_graph(ref, project_root())
        except NanocvError as error:
            sys.exit(f"error: {error.message}\n  try: {error.hint}")
        variants = opened(graph, arguments.int8, arguments.threads, told)
        for batch in map(int, arguments.batch_sizes.split(",")):
            base, *others = medians_by_turns(variants, batch, arguments.rounds).items()
            ratios = "  ".join(f"{name} {base[1] / took:.2f}" for name, took in others)
            say(f"{graph.stem:18}{batch:>6}{1e3 * base[1]:9.1f}   {ratios}")


def say(line: str) -> None:
    """Prints a line of the table as soon as it is known."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def opened(graph: Path, int8: Path | None, threads: int, told: set[str]) -> Variants:
    """What answers: the graph by ONNX Runtime first, then all else that can run it here; why others cannot, once."""
    less = int8 / f"{graph.stem}-int8.onnx" if int8 else None
    wanted = [
        (f"{engine} {precision}", graph, RunSettings(engine, "cpu", threads, precision))
        for engine, row in RUNTIMES.items()
        for precision in row.precisions
    ]
    if less and less.is_file():
        wanted += [(f"{engine} int8", less, RunSettings(engine, "cpu", threads)) for engine in RUNTIMES]
    found: Variants = {}
    for name, file, settings in wanted:
        try:
            found[name] = open_in_process(file, settings, cache_folder(project_root()))
        except NanocvError as error:
            if error.message not in told:
                say(f"{name} is left out: {error.message}")
            told.add(error.message)
    return found


def medians_by_turns(variants: Variants, batch: int, rounds: int) -> dict[str, float]:
    """Median seconds of a batch by variant; one answer of each beforehand compiles for its size."""
    examples = {name: engine.example(batch) for name, engine in variants.items()}
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds + 1):
        for name, engine in variants.items():
            began = time.perf_counter()
            engine.answer(examples[name])
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(taken[1:]) for name, taken in times.items()}


if __name__ == "__main__":
    main()
