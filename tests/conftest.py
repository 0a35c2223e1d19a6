"""What tests share: a tiny set that is trained on in seconds, a project folder, the command line in this process."""

import contextlib
import importlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nanocv_cli  # noqa: F401  # before anything imports ONNX Runtime, which it keeps from telling of its use
from tests.browser import browser  # noqa: F401  # a fixture for whoever has a page

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
COLOURS = {"blue": (40, 60, 200), "green": (40, 190, 60), "red": (210, 40, 50)}
TINY = ["model.input_size=32", "train.epochs=2", "train.batch_size=8", "train.precision=fp32"]


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its standard output as one JSON document."""
        return json.loads(self.out)


Command = Callable[..., Outcome]
Write = Callable[[str, str], Path]

MINUTES = 180  # seconds, from which on a test begins before all others
# What is trained once for several tests, and about how many seconds that takes: whoever asks for it is slow.
TRAINED_ONCE = {"trained": 8, "detector": 20, "segmenter": 14, "generator": 19, "reference": 11, "counter": 10}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name in TRAINED_ONCE.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow(TRAINED_ONCE[name]))
    # What takes minutes begins first: at the end it would run alone, with the other worker idle. The others keep their
    # order, for those of a file share what is trained for it.
    items.sort(key=lambda item: max((mark.args[0] for mark in item.iter_markers("slow")), default=0) < MINUTES)


def pytest_collection_finish() -> None:
    if "nanocv_cli.models.onnx_exporter" in sys.modules:  # what was collected makes graphs
        importlib.import_module("tests.exporter")


def run_nanocv(*arguments: str | Path) -> Outcome:
    """Runs the command line in this process."""
    from nanocv_cli.app import main

    out, err = io.StringIO(), io.StringIO()
    argv, code = sys.argv, 0
    sys.argv = ["nanocv", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    finally:
        sys.argv = argv
    return Outcome(code, out.getvalue(), err.getvalue())


def draw_class_image(name: str, index: int, size: int = 40) -> Image.Image:
    """A noisy square on a noisy ground in the class's colour; the index seeds the noise."""
    rng = np.random.default_rng((index, *name.encode()))
    pixels = rng.integers(0, 90, (size, size, 3)) + 60
    x, y = rng.integers(0, size // 2, 2)
    pixels[y : y + size // 2, x : x + size // 2] = np.array(COLOURS[name]) + rng.integers(-30, 30, 3)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def write_tiny_set(folder: Path, counts: dict[str, int]) -> Path:
    """Class folders of three colours; `counts` images of each class by split ("" for no split folders)."""
    for split, count in counts.items():
        for name in COLOURS:
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                number = index + 1000 * sorted(counts).index(split)
                draw_class_image(name, number).save(folder / split / name / f"{index:03d}.png")
    return folder


@pytest.fixture
def nanocv() -> Command:
    return run_nanocv


@pytest.fixture
def tiny_set(tmp_path: Path) -> Path:
    return write_tiny_set(tmp_path / "colours", {"train": 12, "val": 4, "test": 4})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current project, with its own cache."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("NANOCV_CACHE", raising=False)
    return folder


@pytest.fixture
def write(project: Path) -> Write:
    """Writes `text` to a file of the project."""

    def write_file(name: str, text: str) -> Path:
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_file


@dataclass(frozen=True)
class TrainedRun:
    """A finished run, its data, and what `train --json` printed."""

    folder: Path
    data: Path
    summary: dict[str, Any]

    @property
    def graph(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "best.safetensors"


@contextlib.contextmanager
def training_run(root: Path, data: Path, *arguments: str | Path) -> Iterator[TrainedRun]:
    """Trains by the command line in a project of its own, `root`, which stays the current one until the block ends."""
    with contextlib.chdir(root):
        done = run_nanocv("train", "--data", data, *arguments, "--out", "run", "--json")
        assert done.code == 0, done.err
        yield TrainedRun(root / "run", data, done.document)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainedRun]:
    """One training of a tiny LeNet for all tests that need a model; it must not be written to."""
    root = tmp_path_factory.mktemp("trained")
    data = write_tiny_set(root / "colours", {"train": 40, "val": 8, "test": 8})
    sets = [word for pair in TINY for word in ("--set", pair)]
    with training_run(root, data, "--model", "lenet", *sets, "--set", "train.epochs=6") as run:
        yield run
