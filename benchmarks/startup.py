"""How much nanocv's start costs over what it stands on: cold processes, alternated, medians and ratios.

python benchmarks/startup.py --model weights/lenet-flowers.onnx --image data/flowers/test/daisy/test-00000.jpg
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

BARE_INFER = """
import sys
import numpy, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession(sys.argv[1])
side = session.get_inputs()[0].shape[1]
picture = numpy.asarray(Image.open(sys.argv[2]).convert("RGB").resize((side, side), Image.Resampling.BILINEAR))
answer = session.run(None, {session.get_inputs()[0].name: picture[None]})[0][0]
for label in (-answer).argsort()[:5]:
    print(label, answer[label])
"""


def seconds(command: list[str]) -> float:
    """Wall time of one cold process; its output is dropped, its failure is not."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def compare(name: str, ours: list[str], bare: list[str], runs: int) -> dict[str, float | str]:
    """Median seconds of both commands, run in turn after one warm-up of each, and the median of the pairs' ratios."""
    seconds(ours), seconds(bare)
    pairs = [(seconds(ours), seconds(bare)) for _ in range(runs)]
    return {
        "name": name,
        "nanocv_s": statistics.median(a for a, _ in pairs),
        "bare_s": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(a / b for a, b in pairs),
    }


def main() -> None:
    """Prints one row per comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("weights/lenet-flowers.onnx"))
    parser.add_argument("--image", type=Path, default=Path("data/flowers/test/daisy/test-00000.jpg"))
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    nanocv = str(Path(sys.executable).with_name("nanocv"))
    model, image = str(arguments.model), str(arguments.image)
    bare_help = [sys.executable, "-c", "import typer, rich"]
    bare_infer = [sys.executable, "-c", BARE_INFER, model, image]
    rows = [
        compare("nanocv --help / import typer, rich", [nanocv, "--help"], bare_help, arguments.runs),
        compare("nanocv infer / bare script", [nanocv, "infer", image, "--model", model], bare_infer, arguments.runs),
    ]
    if arguments.json:
        print(json.dumps({"rows": rows}))
        return
    for row in rows:
        times = f"{row['nanocv_s'] * 1e3:7.0f} ms  {row['bare_s'] * 1e3:7.0f} ms"
        print(f"{row['name']:36} {times}  ratio {row['ratio']:.2f}")


if __name__ == "__main__":
    main()
