"""What several processes of one machine cost and bring: one and two train the same, in turn.

    python -m benchmarks.machines --rounds 3

Prints medians: seconds until the first epoch begins, of a training epoch's steps, and of what is between epochs
(validation, saving); and how far the losses are apart. Without batch norm over both processes they differ, so it is on.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from nanocv_cli.training.state import read_progress

EPOCHS = 4


def measured(folder: Path, name: str, options: list[str]) -> dict[str, float]:
    """Seconds of one training, and its last loss."""
    command = [sys.executable, "-m", "nanocv_cli.app", "train", *options, "--out", str(folder / name)]
    started = time.time()
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr
        said = next((line for line in process.stderr if " train, " in line), "")
        began = time.time()
        said += process.stderr.read()
    if process.returncode:
        raise SystemExit(said)
    history = read_progress(folder / name / "checkpoints" / "last.safetensors").history
    whole = [after["time"] - before["time"] for before, after in pairwise(history)]
    steps = [after["seconds"] - before["seconds"] for before, after in pairwise(history)]
    between = [every - own for every, own in zip(whole, steps, strict=True)]
    return {
        "start": began - started,
        "steps": statistics.median(steps),
        "between": statistics.median(between),
        "loss": history[-1]["train_loss"],
    }


def main() -> None:
    """Prints a row for one process and one for two, and how far their losses are apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="flowers")
    parser.add_argument("--model", default="lenet")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    options = ["--data", arguments.data, "--model", arguments.model, "--epochs", str(EPOCHS), "--device", "cpu"]
    options += [
        "--set",
        "train.precision=fp32",
        "--set",
        "train.sync_batchnorm=true",
        "--set",
        "train.start_size=1",
        "--set",
        "train.log=[]",
    ]
    os.environ["OMP_NUM_THREADS"] = "1"  # each process has one processor, so that two are twice as many
    rows: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            for count, found in rows.items():
                found.append(measured(Path(folder), f"{number}-{count}", [*options, "--nproc", str(count)]))
    table = {
        count: {key: statistics.median(row[key] for row in found) for key in found[0]} for count, found in rows.items()
    }
    apart = abs(table[1]["loss"] - table[2]["loss"])
    if arguments.json:
        print(json.dumps({"rows": table, "losses_apart": apart}))
        return
    print(f"{'processes':>9} {'start s':>9} {'steps s':>9} {'between s':>9} {'loss':>9}")
    for count, row in table.items():
        print(f"{count:>9} {row['start']:>9.2f} {row['steps']:>9.2f} {row['between']:>9.2f} {row['loss']:>9.5f}")
    print(f"losses are {apart:.1e} apart")


if __name__ == "__main__":
    main()
