"""How fast the command line starts, as ratios to the least that Python needs for the same work.

    python -m benchmarks.startup [--model REF] [--runs 15]

Two pairs of commands run by turns, so that whatever else the machine does meets both alike; medians are compared.
`infer` answers one image, in a fresh process with warm file caches, beside a bare script that opens, resizes and runs
the same image through the same graph.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from nanocv_cli.config.project import project_root
from nanocv_cli.engine.reference import find_graph
from nanocv_cli.errors import NanocvError

BARE_SCRIPT = """
import sys
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
side = session.get_inputs()[0].shape[1]
image = Image.open(sys.argv[2]).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
scores = session.run(None, {session.get_inputs()[0].name: np.asarray(image)[None]})[0][0]
print(sys.argv[2], scores.argmax(), scores.max())
"""
LIMITS = {"help": 1.5, "infer": 2.0}

Command = Sequence[str | Path]


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="REF", help="as for nanocv infer; default: the project's default model")
    parser.add_argument("--runs", type=int, default=15, help="of each command")
    arguments = parser.parse_args()
    try:
        graph = find_graph(arguments.model, project_root())
    except NanocvError as error:
        sys.exit(f"error: {error.message}\n  try: {error.hint}")

    nanocv = Path(sys.executable).with_name("nanocv")
    with tempfile.TemporaryDirectory() as folder:
        image, script = Path(folder, "img.png"), Path(folder, "bare.py")
        noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
        Image.fromarray(noise).save(image)
        script.write_text(BARE_SCRIPT)
        pairs: dict[str, tuple[Command, Command]] = {
            "help": ([nanocv, "--help"], [sys.executable, "-c", "import typer, rich"]),
            "infer": ([nanocv, "infer", image, "--model", graph], [sys.executable, script, graph, image]),
        }
        say(f"{'':8}{'nanocv ms':>12}{'bare ms':>12}{'ratio':>8}{'at most':>9}   medians of {arguments.runs}")
        for name, (ours, bare) in pairs.items():
            mine, theirs = medians_by_turns(ours, bare, arguments.runs)
            say(f"{name:8}{1e3 * mine:12.0f}{1e3 * theirs:12.0f}{mine / theirs:8.2f}{LIMITS[name]:9.1f}")


def say(line: str) -> None:
    """Prints a line of the table as soon as it is known."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def medians_by_turns(first: Command, second: Command, runs: int) -> tuple[float, float]:
    """Median wall times, seconds, of two commands run A B A B ...; one run of each beforehand warms file caches."""
    seconds_of(first), seconds_of(second)
    times = [(seconds_of(first), seconds_of(second)) for _ in range(runs)]
    return statistics.median(a for a, _ in times), statistics.median(b for _, b in times)


def seconds_of(command: Command) -> float:
    """Wall time of one run."""
    began = time.perf_counter()
    subprocess.run([os.fspath(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
