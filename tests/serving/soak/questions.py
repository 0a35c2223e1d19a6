"""What honest clients ask, and the answers that are right, to the bit: by arithmetic, or by the graph run alone."""

import io
import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

from nanocv_cli.config.loader import resolve_serve
from nanocv_cli.config.project import project_root
from nanocv_cli.engine.reference import find_graph
from nanocv_cli.serving.repository.entry import write_entry
from tests.conftest import draw_class_image
from tests.serving.models import TABLE, entry_config, write_model

Tensors = dict[str, np.ndarray]
KNOWN = 8  # questions about each shipped model
MOST_ROWS = 4
RARE = 12
# Nobody but who loads and unloads it asks `passing`; no load of `broken` succeeds once it has been broken.
LOADED_AGAIN, PASSING, BROKEN = ("doubling", "adding"), "passing", "broken"
GRAPHS = {
    "doubling": "doubling",
    "adding": "adding",
    "looking_up": "looking_up",
    PASSING: "doubling",
    BROKEN: "doubling",
}


@dataclass(frozen=True)
class Question:
    """One request, and all of its answer: arrays by the names of tensors, row by row."""

    model: str
    inputs: Tensors
    outputs: Tensors


@dataclass(frozen=True)
class ImageQuestion:
    """An image's file, and the document that `nanocv infer` prints for it."""

    model: str
    file: bytes
    document: Any


@dataclass(frozen=True)
class Questions:
    """All that may be asked.

    Attributes:
        of_small: draw questions about the small graphs.
        of_shipped: questions about each shipped model; costly, so one in `RARE` requests.
        of_images: to the same, by images as they are.
    """

    of_small: Sequence[Callable[[random.Random], Question]]
    of_shipped: Sequence[Sequence[Question]]
    of_images: Sequence[ImageQuestion]

    def draw(self, chance: random.Random) -> Question:
        """One of them."""
        if self.of_shipped and chance.random() < 1 / RARE:
            return chance.choice(chance.choice(self.of_shipped))
        return chance.choice(self.of_small)(chance)


def write_repository(folder: Path, shipped: Sequence[str]) -> Questions:
    """Writes what is served; returns what to ask about it.

    Args:
        folder: of entries, made if it is not there.
        shipped: references of exported graphs to serve besides the small ones. Each is run one row at a time on one
            thread, so that neither its neighbours in a batch nor a division of its sums moves a bit.
    """
    for name, graph in GRAPHS.items():
        write_model(folder, entry_config(name, graph, backend="onnxruntime"), graph)
    of_shipped, of_images = [], []
    for reference in shipped:
        graph_file = find_graph(reference, project_root())
        entry = write_entry(graph_file, folder, resolve_serve(None, {"max_batch": 1, "threads": 1}))
        of_shipped.append(_asked_alone(graph_file, entry.model))
        of_images += [ImageQuestion(entry.model, file, _inferred(graph_file, file)) for file in image_files()]
    return Questions((doubled, added, looked_up), of_shipped, of_images)


def doubled(chance: random.Random, model: str = "doubling") -> Question:
    """Up to four rows of bytes."""
    x = _drawn(chance).integers(0, 256, (chance.randint(1, MOST_ROWS), 4), np.uint8)
    return Question(model, {"x": x}, {"y": x.astype(np.float32) * 2})


def added(chance: random.Random) -> Question:
    """From a number to 120 kB in each of two tensors."""
    shape = (chance.randint(1, MOST_ROWS), chance.choice([1, 7, 100, 7500]))
    a, b = _drawn(chance).standard_normal((2, *shape), np.float32)
    return Question("adding", {"a": a, "b": b}, {"total": a + b})


def looked_up(chance: random.Random) -> Question:
    """Rows of a table. Others ask for rows that there are not, in the same batches."""
    index = _drawn(chance).integers(0, len(TABLE), (chance.randint(1, MOST_ROWS), 1), np.int64)
    return Question("looking_up", {"index": index}, {"row": TABLE[index]})


def _drawn(chance: random.Random) -> np.random.Generator:
    return np.random.default_rng(chance.getrandbits(32))


def _asked_alone(graph: Path, name: str) -> list[Question]:
    """Random inputs of a graph, answered by ONNX Runtime in this process as the server is told to run it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    drawn, questions = np.random.default_rng(len(name)), []
    for _ in range(KNOWN):
        inputs = {entry.name: _input(entry.type, entry.shape, drawn) for entry in session.get_inputs()}
        answers = session.run(names, inputs)
        questions.append(Question(name, inputs, dict(zip(names, map(np.asarray, answers), strict=True))))
    return questions


def _input(kind: str, shape: list[int | str], drawn: np.random.Generator) -> np.ndarray:
    sizes = (1, *map(int, shape[1:]))
    if kind == "tensor(uint8)":
        return drawn.integers(0, 256, sizes, np.uint8)
    if kind == "tensor(int64)":
        return drawn.integers(0, 2, sizes, np.int64)
    return drawn.standard_normal(sizes, np.float32)


def image_files() -> list[bytes]:
    """An image in each format that the server reads, the first one lying on its side."""
    turned = Image.Exif()
    turned[0x0112] = 6
    files = []
    for format, colour, options in (("JPEG", "red", {"exif": turned}), ("PNG", "green", {}), ("WEBP", "blue", {})):
        file = io.BytesIO()
        draw_class_image(colour, 1, size=300).crop((0, 0, 300, 220)).save(file, format, **options)
        files.append(file.getvalue())
    return files


def _inferred(graph: Path, file: bytes) -> Any:
    command = [sys.executable, "-m", "nanocv_cli.app", "infer", "-", "--model", str(graph), "--threads", "1", "--json"]
    return json.loads(subprocess.run(command, input=file, stdout=subprocess.PIPE, check=True).stdout)
