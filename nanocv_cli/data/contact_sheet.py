"""A contact sheet: images of every class side by side, the class written above them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from nanocv_cli.data.dataset import Dataset, Sample
from nanocv_cli.errors import DataError
from nanocv_cli.files import atomic_path
from nanocv_cli.images.drawing import plain_letters
from nanocv_cli.images.resize import open_square

TILE = 144
GAP = 6
TITLE = 22
MOST_ROWS = 300
LOOKED_AT = 300  # labels that are opened to find images of each class


@dataclass(frozen=True)
class ClassRow:
    """A class as a sheet shows it.

    Attributes:
        name: of the class.
        members: images that show it, of those whose labels were looked at.
        tiles: some of them with their labels drawn, uint8 [TILE,TILE,3].
    """

    name: str
    members: int
    tiles: list[NDArray[np.uint8]]


def class_rows(dataset: Dataset[Any], split: str, per_class: int) -> list[ClassRow]:
    """A row of up to `per_class` images for each class that is there, of the first `MOST_ROWS`.

    Images are spread evenly over each class, so the rows show the set and not its first minutes; unreadable ones are
    passed over.

    Raises:
        DataError: the split is empty.
    """
    shown_by = looked_at(dataset.split(split))
    rows = [(name, [s for s, found in shown_by if label in found]) for label, name in enumerate(dataset.classes)]
    return [
        ClassRow(name, len(members), _tiles(members, per_class, dataset.classes)) for name, members in rows if members
    ][:MOST_ROWS]


def looked_at(samples: Sequence[Sample[Any]]) -> list[tuple[Sample[Any], set[int]]]:
    """Samples with the classes that they show: at most `LOOKED_AT`, evenly over all, of labels that must be opened."""
    return [(sample, sample.label.classes()) for sample in _spread(samples, LOOKED_AT)]


def write_contact_sheet(dataset: Dataset[Any], split: str, path: Path, per_class: int = 8) -> int:
    """Writes the rows of `class_rows` as PNG.

    Returns:
        how many images the sheet shows.

    Raises:
        DataError: the split is empty.
    """
    rows = class_rows(dataset, split, per_class)
    if not rows:
        raise DataError(f"no image of {dataset.name} {split} has a label", "nanocv data check")
    columns = min(per_class, max(row.members for row in rows))
    sheet = Image.new("RGB", (columns * (TILE + GAP) + GAP, len(rows) * (TILE + TITLE + GAP) + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for number, row in enumerate(rows):
        top = GAP + number * (TILE + TITLE + GAP)
        pen.text((GAP, top), f"{plain_letters(row.name)}  ({row.members:,} in {split})", "black", font)
        for column, tile in enumerate(row.tiles):
            sheet.paste(Image.fromarray(tile), (GAP + column * (TILE + GAP), top + TITLE))
    with atomic_path(path) as temporary:
        sheet.save(temporary, "PNG")
    return sum(len(row.tiles) for row in rows)


def _spread(samples: Sequence[Sample[Any]], most: int) -> list[Sample[Any]]:
    """At most so many, evenly over all; but all of labels that need not be opened."""
    if len(samples) <= most or not samples[0].label.is_opened:
        return list(samples)
    return [samples[index] for index in np.linspace(0, len(samples) - 1, most).round().astype(int)]


def _tiles(samples: list[Sample[Any]], count: int, classes: tuple[str, ...]) -> list[NDArray[np.uint8]]:
    tiles = []
    for index in np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int):
        sample = samples[index]
        try:
            tile, _ = open_square(sample.image(), TILE, sample.label.resize)
            tile = sample.label.draw(tile, classes)
        except DataError:
            continue
        tiles.append(tile)
    return tiles
