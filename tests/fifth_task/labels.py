"""Images with `counts.json` beside them: how many flowers each shows."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.dataset import Dataset, Sample
from nanocv_cli.data.formats.table import Reader
from nanocv_cli.data.labels.base import Label, Problem

MOST = 4


@dataclass(frozen=True)
class Count(Label):
    """How many flowers an image shows."""

    plural = "counts"

    number: int

    def check(self, split: str, path: Path, size: tuple[int, int]) -> Iterator[Problem]:
        if self.number < 0:
            yield Problem("error", "negative", f"{split}: {path}: {self.number} flowers", (str(path),))

    def classes(self) -> set[int]:
        return {0}

    def draw(self, image: NDArray[np.uint8], names: tuple[str, ...]) -> NDArray[np.uint8]:
        canvas = Image.fromarray(image)
        ImageDraw.Draw(canvas).text((2, 2), f"{self.number}", fill=(255, 255, 255))
        return np.asarray(canvas)

    def remap(self, numbers: Sequence[int]) -> "Count":
        return self  # a count, whatever number its class has


def find_counts(root: Path) -> list[Path]:
    return [file for split in ("train", "val") if (file := root / split / "counts.json").is_file()]


def read_counts(config: DataConfig, root: Path) -> Dataset[Count]:
    splits = {}
    for file in find_counts(root):
        counts = json.loads(file.read_text())
        splits[file.parent.name] = tuple(
            Sample(file.parent / name, Count(count)) for name, count in sorted(counts.items())
        )
    return Dataset(config.name, root, ("flower",), splits)


READER = Reader("counts", Count, find_counts, read_counts, "counts.json beside the images of each split")


def write_counted_set(folder: Path, counts: dict[str, int], size: int = 32) -> Path:
    """Draws none to four flowers on grey noise, in cells of their own, and says how many."""
    random = np.random.default_rng(0)
    for split, number in counts.items():
        (folder / split).mkdir(parents=True)
        told = {}
        for index in range(number):
            image = Image.fromarray(random.integers(90, 130, (size, size, 3), np.uint8))
            pen, count = ImageDraw.Draw(image), int(random.integers(0, MOST + 1))
            for cell in random.permutation(4)[:count]:
                x, y = (int(cell) % 2 * size // 2 + 4, int(cell) // 2 * size // 2 + 4)
                pen.ellipse((x, y, x + 7, y + 7), fill=(230, 60, 120))
            image.save(folder / split / f"{index:03d}.png")
            told[f"{index:03d}.png"] = count
        (folder / split / "counts.json").write_text(json.dumps(told))
    return folder
