"""What a set of very many images costs before its first step: seconds and memory by the number of images.

Draws class folders of small JPEGs, hard links of a hundred, and starts a fresh process for each size, which reads the
set, takes its fingerprint, opens the cache (made before, unless `--no-cache`: then images stream), and makes a batch.

    python -m benchmarks.listing --images 10000 100000 1000000

Without the cache a million images take about a minute. Memory is what the process holds for itself when the batch is
made, beyond what it held after its imports; pages of the cache, which the system takes back, are not its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES, DRAWN, SIDE, SIZE = 100, 100, 64, 37


def write_set(folder: Path, images: int) -> None:
    """Class folders with train and val, of hard links to `DRAWN` JPEGs."""
    rng = np.random.default_rng(0)
    for number in range(DRAWN):
        pixels = np.kron(rng.integers(0, 255, (8, 8, 3)), np.ones((SIDE // 8, SIDE // 8, 1)))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.jpg", quality=80)
    for split, count in (("train", images * 9 // 10), ("val", images // 10)):
        for label in range(CLASSES):
            members = folder / "set" / split / f"class{label:03d}"
            members.mkdir(parents=True)
            for number in range(count // CLASSES):
                os.link(folder / f"{number % DRAWN}.jpg", members / f"image_{number:07d}.jpg")


def own_memory() -> float:
    """MB that this process holds for itself now."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) / 1024


def measure(folder: Path, is_cached: bool) -> None:
    """Prints what one start costs, as JSON."""
    started = time.perf_counter()
    from nanocv_cli.config.schema import DataConfig
    from nanocv_cli.data.batches import Batches
    from nanocv_cli.display import Display
    from nanocv_cli.evaluation.evaluate import load_split
    from nanocv_cli.tasks.table import task_for

    task = task_for("classification")
    before = own_memory()
    times = {"imports": time.perf_counter() - started}

    def lap(name: str) -> None:
        times[name] = time.perf_counter() - started - sum(times.values())

    config = DataConfig(name="set", path="set", cache_gb=1000.0 if is_cached else 0.0)
    dataset = task.read(config, folder / "set")
    lap("read")
    dataset.fingerprint()
    lap("fingerprint")
    splits = [load_split(dataset, name, task, folder / "cache", SIZE, "crop", Display()) for name in ("train", "val")]
    lap("open")
    next(Batches(splits[0].images, splits[0].targets, 256, seed=0).epoch(0))
    lap("first batch")
    print(json.dumps({**times, "MB": own_memory() - before}))


def main() -> None:
    """Prints a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument(
        "--folder", type=Path, help="where the sets are written; default: the folder of temporary files"
    )
    parser.add_argument("--no-cache", action="store_true", help="do not make the cache first: images stream")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.one, not options.no_cache)
        return
    print(
        "| images | imports s | read s | fingerprint s | open s | first batch s | in all s | MB held | bytes an image |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for count in options.images:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            write_set(folder, count)
            command = [sys.executable, __file__, "--one", name, *(["--no-cache"] if options.no_cache else [])]
            if not options.no_cache:
                started = time.perf_counter()
                subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
                print(f"{count:,} images cached in {time.perf_counter() - started:.0f} s", file=sys.stderr)
            found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        memory = found.pop("MB")
        seconds = " | ".join(f"{value:.1f}" for value in found.values())
        print(
            f"| {count:,} | {seconds} | {sum(found.values()):.1f} | {memory:.0f} | {memory * 2**20 / count:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
