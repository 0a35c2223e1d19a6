"""How close a model in a browser (`nanocv export web`) comes to `nanocv infer`, over any images, and how fast it is.

    python -m benchmarks.web FOLDER [--models lenet-flowers,nanospot-flowers,nanoseg-flowers] [--images 30] [--large 2]

Debian's chromium without a window answers images of FOLDER, read by the page itself, and so does nanocv in this process
by one thread. `--large` of them are there a second time with 12 megapixels: JPEGs of that size are decoded at a reduced
scale by nanocv and whole by a browser. Columns: images; those with the same first label; with all labels the same; of
these the largest difference of a score and of a box's corner; pixels of a mask that differ; largest (and mean)
difference of the square that the graph reads, of 255; the graph's time, the median of each, by turns.
"""

import argparse
import base64
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.infer import enlarge
from nanocv_cli.api.model import Model
from nanocv_cli.config.project import project_root
from nanocv_cli.engine.engine import Engine, open_engine
from nanocv_cli.engine.runtimes import DEFAULT, RunSettings
from nanocv_cli.images.resize import SUFFIXES, open_square
from nanocv_cli.web.folder import write_web_folder
from tests.browser import CHROMIUM, DRIVER, start_browser
from tests.web.sites import MOST_SECONDS, served

ASK = """const [file, done] = arguments;
  (async () => {
    const [{ answerImage, counters, listModels }, { readSquare }] = await Promise.all(
      ["models.js", "pixels.js"].map((name) => import(new URL(name, location.href))));
    const bytes = Uint8Array.from(atob(file), (letter) => letter.charCodeAt(0));
    const [model] = await listModels();
    const image = new Blob([bytes]);
    const graph = async () => { const [one] = (await counters()).values(); return one.compute * one.answered; };
    const packed = (bytes) => new Promise((resolve) => {
      const reader = new FileReader(); // numbers of twelve megapixels as JSON would take minutes
      reader.onload = () => resolve(reader.result.split(",")[1] ?? "");
      reader.readAsDataURL(new Blob([bytes]));
    });
    const before = await graph();
    const { content } = await answerImage(model, image, new AbortController().signal);
    const { square } = await readSquare(image, model.card.input_size, model.card.resize);
    const milliseconds = (await graph()) - before;
    const labels = content.mask && await packed(content.mask.labels);
    return { found: content.predictions, labels, square: await packed(square), milliseconds };
  })().catch(String).then(done);"""


def main() -> None:
    """Compares and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="images, searched through")
    parser.add_argument("--models", default="lenet-flowers,nanospot-flowers,nanoseg-flowers")
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--large", type=int, default=2)
    arguments = parser.parse_args()
    if CHROMIUM is None or DRIVER is None:
        sys.exit("error: no chromium with its driver here\n  try: apt-get install chromium chromium-driver")
    found = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        sys.exit(f"error: no images in {arguments.folder}")
    images = found[:: max(1, len(found) // arguments.images)][: arguments.images]
    with tempfile.TemporaryDirectory() as name:
        for number, image in enumerate(images[: arguments.large]):
            images.append(Path(name, f"large{number}.jpg"))
            enlarge(image, images[-1])
        columns = ("images", "first", "all", "score", "box, px", "mask", "square", "ms", "nanocv", "ratio")
        say("model".ljust(24) + "".join(name.rjust(12 if name == "square" else 9) for name in columns))
        browser = start_browser()
        browser.set_script_timeout(MOST_SECONDS)
        try:
            for model in arguments.models.split(","):
                write_web_folder(model, Path(name) / "site")
                with served(Path(name) / "site") as origin:
                    engine = open_engine(model, project_root(), RunSettings(DEFAULT, threads=1))
                    compare(browser, f"{origin}/", engine, images)
        finally:
            browser.quit()


def compare(browser: Any, page: str, engine: Engine, images: list[Path]) -> None:
    """Prints a model's row."""
    browser.get(page)
    model = Model(engine)
    first = alike = 0
    scores, boxes, masks, squares, means = [0.0], [0.0], [0.0], [0], [0.0]
    theirs, ours = [], []
    for path in images:
        told = browser.execute_async_script(ASK, base64.b64encode(path.read_bytes()).decode())
        square, _ = open_square(path, model.card.input_size, model.card.resize)
        begun = time.perf_counter()
        engine.run(square[None])
        ours.append(1000 * (time.perf_counter() - begun))
        theirs.append(told["milliseconds"])
        (result,) = model.predict([path])
        expected, answer = result.to_json()["predictions"], told["found"]
        first += [one["label"] for one in expected[:1]] == [one["label"] for one in answer[:1]]
        off = np.abs(unpacked(told["square"]).reshape(square.shape) - square.astype(int))
        squares.append(int(off.max()))
        means.append(float(off.mean()))
        for mask in result.attached().values():
            masks.append(float(np.mean(unpacked(told["labels"]) != mask.ravel())))
        if [one["label"] for one in expected] != [one["label"] for one in answer]:
            continue
        alike += 1
        for one, other in zip(expected, answer, strict=True):
            scores.append(abs(one["score"] - other["score"]))
            boxes.append(float(np.abs(np.subtract(one.get("box", 0), other.get("box", 0))).max()))
    browsers, own = statistics.median(theirs), statistics.median(ours)
    say(f"{model.card.name:24}{len(images):9}{first:9}{alike:9}{max(scores):9.4f}{max(boxes):9.2f}{max(masks):9.2%}"
        f"{max(squares):5} ({max(means):.2f}){browsers:9.1f}{own:9.1f}{browsers / own:9.1f}")  # fmt: skip


def unpacked(text: str) -> NDArray[np.uint8]:
    """Bytes that came as base64."""
    return np.frombuffer(base64.b64decode(text), np.uint8)


def say(line: str) -> None:
    """Prints a line at once."""
    print(line, flush=True)


if __name__ == "__main__":
    main()
