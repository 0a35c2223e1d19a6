"""How fast `nanocv infer` goes through folders of photographs, beside the best script of twenty lines.

    python -m benchmarks.infer [--model REF] [--small FOLDER] [--large 60] [--rounds 5]

Two folders: JPEGs of 12 megapixels, made here from those of `--small`, and those of `--small` as they are. The script
decodes with as many threads as there are processors, JPEGs at a reduced scale, while the graph answers the batch
before; it checks nothing and post-processes nothing. Both run as whole processes by turns; medians are compared. The
last column takes off what each needs for a single image.
"""

import argparse
import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.startup import medians_by_turns, say
from nanocv_cli.config.project import project_root
from nanocv_cli.engine.reference import find_graph
from nanocv_cli.errors import NanocvError
from nanocv_cli.images.resize import JPEG_SUFFIXES

SCRIPT = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
name, side = session.get_inputs()[0].name, session.get_inputs()[0].shape[1]

def read(path):
    image = Image.open(path)
    image.draft("RGB", (side, side))
    return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))

paths = sorted(Path(sys.argv[2]).rglob("*.jpg"))
with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()) as pool:
    images = pool.map(read, paths)
    for start in range(0, len(paths), 8):
        batch = list(islice(images, 8))
        for path, scores in zip(paths[start:], session.run(None, {name: np.stack(batch)})[0]):
            print(path, scores.argmax(), scores.max())
"""
SIZE = (4000, 3000)


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="REF", default="lenet-flowers", help="a classifier, as for nanocv infer")
    parser.add_argument("--small", type=Path, default=Path("data/flowers/train"), help="a folder of small JPEGs")
    parser.add_argument("--large", type=int, default=60, help="images of 12 megapixels")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    try:
        graph = find_graph(arguments.model, project_root())
    except NanocvError as error:
        sys.exit(f"error: {error.message}\n  try: {error.hint}")
    photographs = sorted(path for path in arguments.small.rglob("*") if path.suffix.lower() in JPEG_SUFFIXES)
    if not photographs:
        sys.exit(f"error: no JPEGs in {arguments.small}\n  try: nanocv data pull flowers")

    nanocv = Path(sys.executable).with_name("nanocv")
    with tempfile.TemporaryDirectory() as name:
        script, large, single = Path(name, "script.py"), Path(name, "large"), Path(name, "single")
        script.write_text(SCRIPT)
        large.mkdir(), single.mkdir()
        for number, path in zip(range(arguments.large), itertools.cycle(photographs), strict=False):
            enlarge(path, large / f"{number:04}.jpg")
        (single / "one.jpg").write_bytes(photographs[0].read_bytes())

        say(f"{'':10}{'images':>8}{'nanocv /s':>11}{'script /s':>11}{'ratio':>8}{'after start':>13}")
        starts = (0.0, 0.0)
        for label, folder in (("one", single), ("12 MP", large), ("small", arguments.small)):
            count = sum(1 for _ in folder.rglob("*.jpg"))
            ours = [nanocv, "infer", folder, "--model", graph, "--json"]
            mine, theirs = medians_by_turns(ours, [sys.executable, script, graph, folder], arguments.rounds)
            starts = starts if label != "one" else (mine, theirs)
            after = "" if label == "one" else f"{(theirs - starts[1]) / (mine - starts[0]):13.2f}"
            say(f"{label:10}{count:8}{count / mine:11.1f}{count / theirs:11.1f}{theirs / mine:8.2f}{after}")


def enlarge(path: Path, to: Path) -> None:
    """A photograph of 12 megapixels with a camera's grain: what is enlarged alone would be decoded too quickly."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC), np.int16)
    grain = np.random.default_rng(0).normal(0, 4, pixels.shape[:2])[..., None]
    Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8)).save(to, quality=85)


if __name__ == "__main__":
    main()
