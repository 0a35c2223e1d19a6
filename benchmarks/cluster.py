"""Images a second: `nanocv infer` in one process beside `--engine ray` on this machine, in alternating rounds.

python -m benchmarks.cluster [--model REF] [--images 2000]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROUNDS = 2
DISTINCT = 50


def write_photos(folder: Path, count: int) -> None:
    """JPEGs of 500x375 pixels; `DISTINCT` of them under `count` names."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number:06d}.jpg"
        if number < DISTINCT:
            small = Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8))
            small.resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)
        else:
            path.hardlink_to(folder / f"{number % DISTINCT:06d}.jpg")


def nanocv(*arguments: str) -> str:
    command = [sys.executable, "-m", "nanocv_cli.app", "infer", *arguments, "--json"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lenet-flowers")
    parser.add_argument("--images", type=int, default=2000)
    given = parser.parse_args()
    print(f"{'round':>5} {'one process':>12} {'ray':>8} {'workers':>8} {'ray, with its start':>20}   images a second")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_photos(folder / "photos", given.images)
        for number in range(ROUNDS):
            begin = time.monotonic()
            nanocv(str(folder / "photos"), "--model", given.model)
            alone = given.images / (time.monotonic() - begin)
            begin = time.monotonic()
            out = str(folder / f"answers-{number}")
            told = json.loads(
                nanocv(
                    *(str(folder / "photos"), "--model", given.model, "--engine", "ray", "--out", out),
                    *("--part-images", str(max(1, given.images // 20))),
                )
            )
            whole = given.images / (time.monotonic() - begin)
            print(f"{number:>5} {alone:>12.0f} {told['images_per_second']:>8.0f} {told['workers']:>8} {whole:>20.0f}")


if __name__ == "__main__":
    main()
