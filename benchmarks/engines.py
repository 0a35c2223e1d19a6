"""How much faster than ONNX Runtime in fp32 other engines and precisions answer, as ratios, beside the bars.

    python -m benchmarks.engines [--model REF ...] [--int8 FOLDER] [--batch-sizes 1,8] [--threads 2] [--rounds 9]
                                 [--max-drop 1] [--profile]

All variants of a model run by turns, so that whatever else the machine does meets all alike; medians are compared, and
more than 1 is faster. Below stands the best of those that lost at most `--max-drop` points of the metric, and the bar.
bf16 is left out where the processor has none.

Graphs in int8 are `<model>-int8.onnx` of `--int8`; what is missing there is made by `nanocv export onnx --precision
int8` on the flowers, half a minute each, once; NanoFlow takes some minutes. NanoRes has no pretrained weights: it is
built with random ones for each run, and calibrated on random images, so it has no metric to lose.

`--profile` adds where the time of the best one goes on OpenVINO, node by node.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from nanocv_cli.config.project import cache_folder, project_root
from nanocv_cli.engine.engine import Engine
from nanocv_cli.engine.reference import find_graph
from nanocv_cli.engine.runtimes import RUNTIMES, RunSettings, open_in_process
from nanocv_cli.errors import NanocvError
from nanocv_cli.machine import processor_name

# How many times as fast as ONNX Runtime in fp32 the best variant is meant to be.
BARS = {"lenet": 2.5, "nanospot": 3.5, "nanoseg": 3.5, "nanores": 2.5, "nanoflow": 2.0}
PULLED = ("lenet-flowers", "nanospot-flowers", "nanoseg-flowers", "nanoflow-flowers")
RANDOM = "nanores"
CLASSES = ("daisy", "rose", "sunflower", "tulip")
CALIBRATED_ON = 32
PROFILED = 12  # nodes
SECONDS, FEWEST_ROUNDS = 12.0, 3  # for a model and batch size
WARM = 3  # answers that are not counted


@dataclass(frozen=True)
class Subject:
    """A model in fp32 and, if there is one, in int8."""

    graph: Path
    int8: Path | None = None


@dataclass
class Variant:
    """What answers, and how long it took; `drop` is what its precision lost, None where nobody knows."""

    engine: Engine
    file: Path
    drop: float | None
    seconds: list[float] = field(default_factory=list)


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="REF", action="append", help=f"default: {', '.join((*PULLED, RANDOM))}")
    parser.add_argument("--int8", metavar="FOLDER", type=Path, help="of graphs in int8; default: in the cache")
    parser.add_argument("--batch-sizes", default="1,8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--max-drop", type=float, default=1.0)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    int8 = arguments.int8 or cache_folder(project_root()) / "benchmarks"
    say(f"{processor_name()}, {arguments.threads} threads, medians of up to {arguments.rounds}")
    told: set[str] = set()
    say(f"{'model':18}{'batch':>6}{'fp32 ms':>9}   ratios to it")
    with tempfile.TemporaryDirectory() as folder:
        for ref in arguments.model or (*PULLED, RANDOM):
            try:
                subject = with_random_weights(ref, Path(folder)) if ref == RANDOM else pretrained(ref, int8)
            except NanocvError as error:
                sys.exit(f"error: {error.message}\n  try: {error.hint}")
            variants = opened(subject, arguments.threads, told)
            for batch in map(int, arguments.batch_sizes.split(",")):
                take_turns(variants, batch, arguments.rounds)
                tell(subject.graph.stem, batch, variants, arguments.max_drop)
                if arguments.profile:
                    profile(variants, batch, arguments.threads, arguments.max_drop)


def say(line: str) -> None:
    """Prints a line of the table as soon as it is known."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def pretrained(ref: str, folder: Path) -> Subject:
    """A model of the project's, whose graph in int8 is made where it is not there yet."""
    graph = find_graph(ref, project_root())
    reduced = folder / f"{graph.stem}-int8.onnx"
    if not reduced.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        say(f"{graph.stem}: making {reduced}")
        nanocv = Path(sys.executable).with_name("nanocv")
        made = [nanocv, "export", "onnx", "--model", ref, "--precision", "int8", "--out", reduced, "--json"]
        done = subprocess.run(made, capture_output=True, text=True, check=False)
        if done.returncode:
            say(f"{graph.stem} has no int8: {done.stderr.strip().splitlines()[-2]}")
    return Subject(graph, reduced if reduced.is_file() else None)


def with_random_weights(name: str, folder: Path) -> Subject:
    """A classifier of a model config, exported as a trained one is."""
    import numpy as np
    import onnx
    import torch

    from nanocv_cli.config.loader import resolve
    from nanocv_cli.engine.card import ModelCard
    from nanocv_cli.exporting.precision import quantise
    from nanocv_cli.models.registry import build_model
    from nanocv_cli.tasks.table import task_for

    torch.manual_seed(0)
    config = resolve(model=name).config.model
    task, network = task_for(config.task), build_model(config, len(CLASSES)).eval()
    card = ModelCard(name, config.task, CLASSES, config.input_size, config.resize, "", {}, "")
    model = task.to_onnx(network, config, card)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (CALIBRATED_ON, 1, config.input_size, config.input_size, 3), np.uint8)
    reduced = quantise(model, [{"images": image} for image in images], ())
    onnx.helper.set_model_props(reduced, card.to_metadata())
    subject = Subject(folder / f"{name}.onnx", folder / f"{name}-int8.onnx")
    for graph, path in ((model, subject.graph), (reduced, folder / f"{name}-int8.onnx")):
        onnx.save(graph, str(path))
    return subject


def opened(subject: Subject, threads: int, told: set[str]) -> dict[str, Variant]:
    """What answers: the graph by ONNX Runtime first, then all else that can run it here; why others cannot, once."""
    wanted = [
        (f"{engine} {precision}", subject.graph, RunSettings(engine, "cpu", threads, precision))
        for engine, row in RUNTIMES.items()
        for precision in row.precisions
    ]
    if subject.int8:
        wanted += [(f"{engine} int8", subject.int8, RunSettings(engine, "cpu", threads)) for engine in RUNTIMES]
    found: dict[str, Variant] = {}
    for name, file, settings in wanted:
        try:
            engine = open_in_process(file, settings, cache_folder(project_root()))
            is_measured = settings.precision == "fp32"
            found[name] = Variant(engine, file, float(engine.card.cost.get("drop", 0.0)) if is_measured else None)
        except NanocvError as error:
            if error.message not in told:
                say(f"{name} is left out: {error.message}")
            told.add(error.message)
    return found


def take_turns(variants: dict[str, Variant], batch: int, rounds: int) -> None:
    """Times a batch by each; some answers of each beforehand compile for its size."""
    examples = {name: variant.engine.example(batch) for name, variant in variants.items()}
    for variant in variants.values():
        variant.seconds.clear()
    end = time.perf_counter() + SECONDS
    for number in range(rounds + WARM):
        if number >= WARM + FEWEST_ROUNDS and time.perf_counter() > end:
            break
        for name, variant in variants.items():
            began = time.perf_counter()
            variant.engine.answer(examples[name])
            if number >= WARM:
                variant.seconds.append(time.perf_counter() - began)


def tell(model: str, batch: int, variants: dict[str, Variant], max_drop: float) -> None:
    """A line of the table: all ratios, the best variant that lost little, and the bar."""
    medians = {name: statistics.median(variant.seconds) for name, variant in variants.items()}
    base = next(iter(medians.values()))
    ratios = "  ".join(f"{name} {base / took:.2f}" for name, took in list(medians.items())[1:])
    name = best(variants, max_drop)
    bar = BARS.get(model.partition("-")[0])
    against = f", bar {bar:g}: {'met' if base / medians[name] >= bar else 'NOT met'}" if bar else ""
    say(f"{model:18}{batch:>6}{1e3 * base:9.1f}   {ratios}")
    say(f"{'':33}   best: {name} {base / medians[name]:.2f}{against}")


def best(variants: dict[str, Variant], max_drop: float) -> str:
    """The fastest of those that are known to have lost little."""
    fitting = {name: one for name, one in variants.items() if one.drop is not None and one.drop <= max_drop}
    return min(fitting, key=lambda name: statistics.median(fitting[name].seconds))


def profile(variants: dict[str, Variant], batch: int, threads: int, max_drop: float) -> None:
    """Where the time of the best one goes, if that is by OpenVINO: the longest nodes, and each kind's share."""
    from nanocv_cli.engine.openvino_graph import LATENCY, compile_graph
    from nanocv_cli.engine.openvino_shapes import Requests

    name = best(variants, max_drop)
    if not name.startswith("openvino"):
        return
    variant = variants[name]
    options = {"NUM_STREAMS": 1, "PERF_COUNT": True}
    requests = Requests(compile_graph(str(variant.file), name, LATENCY, threads, further=options).graph)
    rounds: list[dict[tuple[str, str, str], float]] = []

    def run(request: object, graph_inputs: object) -> None:
        request.infer(graph_inputs, share_inputs=True)  # type: ignore[attr-defined]
        rounds.append({(node.node_name, node.node_type, node.exec_type): node.real_time.total_seconds()
                       for node in request.get_profiling_info()})  # type: ignore[attr-defined]  # fmt: skip

    for _ in range(WARM + 9):
        requests.answer(variant.engine.example(batch), run)
    took = {node: statistics.median(one.get(node, 0.0) for one in rounds[WARM:]) for node in rounds[-1]}
    whole, summed = statistics.median(variant.seconds), sum(took.values())
    kinds: Counter[str] = Counter()
    for (_, kind, _), seconds in took.items():
        kinds[kind] += seconds  # type: ignore[assignment]
    say(f"    {name}, batch {batch}: nodes {1e3 * summed:.2f} ms, a call {1e3 * whole:.2f} ms; " + ", ".join(
        f"{kind} {seconds / summed:.0%}" for kind, seconds in kinds.most_common(6)))  # fmt: skip
    for (node, kind, how), seconds in sorted(took.items(), key=lambda pair: -pair[1])[:PROFILED]:
        say(f"    {1e6 * seconds:9.0f} us {seconds / summed:5.0%}  {kind:24} {how:24} {node[:60]}")


if __name__ == "__main__":
    main()
