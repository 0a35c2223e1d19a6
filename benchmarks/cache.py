"""How fast a training set of 12-megapixel JPEGs is cached, beside a bare loop, and what each image's time goes on.

    python -m benchmarks.cache [--small FOLDER] [--images 16] [--size 224] [--rounds 3]

The images are made here from the JPEGs of `--small`. The loop decodes them with a thread for each processor by Pillow
at a reduced scale and resizes them: no checks, no file written. Both run by turns; medians are compared. The shares
below are of one thread's processor time, so that other work does not move them.
"""

import argparse
import io
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.infer import enlarge
from nanocv_cli.data.cache import cached_split
from nanocv_cli.data.dataset import Sample
from nanocv_cli.images.resize import JPEG_SUFFIXES, open_square
from nanocv_cli.machine import usable_processors


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=Path, default=Path("data/flowers/train"), help="a folder of small JPEGs")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--size", type=int, default=224, help="side of the cached square")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    photographs = sorted(path for path in arguments.small.rglob("*") if path.suffix.lower() in JPEG_SUFFIXES)
    if not photographs:
        sys.exit(f"error: no JPEGs in {arguments.small}\n  try: nanocv data pull flowers")
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name, f"{number:04}.jpg") for number in range(arguments.images)]
        for path, photograph in zip(paths, itertools.cycle(photographs), strict=False):
            enlarge(photograph, path)
        samples: list[Sample[Any]] = [Sample(path, 0) for path in paths]
        ours: list[float] = []
        bare: list[float] = []
        full: list[float] = []
        for number in range(arguments.rounds):
            ours.append(
                seconds(lambda n=number: cached_split(Path(name, f"cache{n}"), samples, arguments.size, "crop"))
            )
            bare.append(seconds(lambda: loop(paths, arguments.size)))
            full.append(seconds(lambda: loop(paths, arguments.size, reduced=False)))
        cached, looped, whole = (len(paths) / statistics.median(times) for times in (ours, bare, full))
        say(f"{'cached':34}{cached:8.1f} images/s")
        say(f"{'bare loop, reduced scale':34}{looped:8.1f} images/s   cached / loop {cached / looped:.2f}")
        say(f"{'bare loop, every pixel decoded':34}{whole:8.1f} images/s   cached / loop {cached / whole:.2f}")
        tell_shares(paths, arguments.size)


def say(line: str) -> None:
    """Prints a line as soon as it is known."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def seconds(run: Callable[[], object]) -> float:
    """Wall time of a call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def loop(paths: list[Path], size: int, reduced: bool = True) -> None:
    """The least that decodes and resizes all of them."""

    def read(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            if reduced:
                image.draft("RGB", (size, size))
            return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))

    with ThreadPoolExecutor(usable_processors()) as pool:
        list(pool.map(read, paths))


def tell_shares(paths: list[Path], size: int) -> None:
    """Where the time of an image goes: each step's least processor time over all images, one thread."""
    steps: dict[str, list[float]] = {}

    def timed(step: str, run: Callable[[], Any]) -> Any:
        began = time.thread_time()
        result = run()
        steps.setdefault(step, []).append(time.thread_time() - began)
        return result

    for path in paths:
        content = timed("reading the file", path.read_bytes)
        timed("entropy decoding (to 1/8)", lambda content=content: decoded(content, 8))
        timed("decoding as it is done", lambda content=content: decoded(content, scale_for(content, size)))
        timed("all of it", lambda: open_square(path, size, "crop"))  # noqa: B023  # called at once
    middle = {step: statistics.median(times) for step, times in steps.items()}
    everything = middle["all of it"]
    for step, took in middle.items():
        say(f"{step:34}{1e3 * took:8.2f} ms  {took / everything:5.0%}")
    rest = everything - middle["decoding as it is done"] - middle["reading the file"]
    say(f"{'resize, checks, Python':34}{1e3 * rest:8.2f} ms  {rest / everything:5.0%}")


def scale_for(content: bytes, size: int) -> int:
    """What `open_square` divides width and height by: as far as half as many pixels again as the square remain."""
    with Image.open(io.BytesIO(content)) as image:
        least = min(image.size)
    return max(scale for scale in (1, 2, 4, 8) if least / scale >= 1.5 * size or scale == 1)


def decoded(content: bytes, scale: int) -> None:
    """Pixels of a JPEG, at a fraction of its width and height."""
    with Image.open(io.BytesIO(content)) as image:
        image.draft("RGB", (image.width // scale, image.height // scale))
        image.load()


if __name__ == "__main__":
    main()
