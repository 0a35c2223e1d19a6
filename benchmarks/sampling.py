"""How much more than the network's own arithmetic sampling takes, as a ratio.

    python -m benchmarks.sampling [--model nanoflow] [-n 16] [--steps 12] [--rounds 7]

By turns in ONNX Runtime: images by the exported graph, which holds the whole sampler, and the bare network called in
a Python loop just as often, with the same batches. Medians are compared.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from nanocv_cli.config.project import project_root
from nanocv_cli.engine.graph import Graph
from nanocv_cli.engine.reference import find_checkpoint, find_graph
from nanocv_cli.errors import NanocvError
from nanocv_cli.models.checkpoint import load_network
from nanocv_cli.models.onnx_exporter import quiet
from nanocv_cli.tasks.generation.sampler import evaluation_count
from nanocv_cli.tasks.generation.sampling import GraphSampler, image_noise
from nanocv_cli.tasks.sampler import SamplingSettings


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="REF", default="nanoflow", help="as for nanocv sample")
    parser.add_argument("-n", type=int, default=16, dest="count", help="images")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    root = project_root()
    try:
        sampler = GraphSampler(Graph(find_graph(arguments.model, root)))
        network = bare_network(find_checkpoint(arguments.model, root), 2 * arguments.count)
    except NanocvError as error:
        sys.exit(f"error: {error.message}\n  try: {error.hint}")
    side = sampler.card.input_size
    noise = image_noise(0, 0, arguments.count, side)
    labels = np.arange(arguments.count) % len(sampler.card.classes)
    both = {
        "images": np.concatenate([noise, noise]),
        "times": np.zeros(2 * arguments.count, np.float32),
        "labels": np.concatenate([labels, np.full_like(labels, -1)]),
    }
    sys.stdout.write(f"{'solver':8}{'evaluations':>12}{'sampler ms':>12}{'network ms':>12}{'ratio':>8}   medians of ")
    sys.stdout.write(f"{arguments.rounds}, {arguments.count} images, {arguments.steps} steps\n")
    for heun in (True, False):
        settings = SamplingSettings(arguments.steps, 1.5, heun)
        evaluations = evaluation_count(arguments.steps, heun)
        whole, bare = [], []
        for _ in range(arguments.rounds + 1):
            began = time.perf_counter()
            sampler.make(noise, labels, settings)
            between = time.perf_counter()
            for _ in range(evaluations):
                network.run(None, both)
            whole.append(between - began)
            bare.append(time.perf_counter() - between)
        ours, theirs = (statistics.median(times[1:]) for times in (whole, bare))  # the first warms up
        name = "heun" if heun else "euler"
        sys.stdout.write(f"{name:8}{evaluations:12}{1e3 * ours:12.0f}{1e3 * theirs:12.0f}{ours / theirs:8.2f}\n")
        sys.stdout.flush()


def bare_network(checkpoint: Path, count: int) -> onnxruntime.InferenceSession:
    """The velocity field alone as a graph for `count` images."""
    network, config, _ = load_network(checkpoint)
    side = config.input_size
    example = torch.zeros(count, 3, side, side), torch.zeros(count), torch.zeros(count, dtype=torch.int64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        with quiet():
            torch.onnx.export(
                network,
                example,
                str(path),
                dynamo=True,
                input_names=["images", "times", "labels"],
                external_data=False,
                verbose=False,
            )
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
