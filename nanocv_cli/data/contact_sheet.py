"""A contact sheet: images of every class side by side, the class written above them."""

from collections.abc import Sequence
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


def write_contact_sheet(dataset: Dataset[Any], split: str, path: Path, per_class: int = 8) -> int:
    """Writes one row of up to `per_class` images for each class, of the first `MOST_ROWS`, as PNG.

    Images are spread evenly over each class, so the sheet shows the set and not its first minutes; unreadable ones
    are passed over.

    Returns:
        how many images the sheet shows.

    Raises:
        DataError: the split is empty.
    """
    samples = dataset.split(split)
    shown_by = [(sample, sample.label.classes()) for sample in _spread(samples, LOOKED_AT)]
    rows = [(name, [s for s, found in shown_by if label in found]) for label, name in enumerate(dataset.classes)]
    rows = [(name, members) for name, members in rows if members][:MOST_ROWS]
    if not rows:
        raise DataError(f"no image of {dataset.name} {split} has a label", "nanocv data check")
    columns = min(per_class, max(len(members) for _, members in rows))
    sheet = Image.new("RGB", (columns * (TILE + GAP) + GAP, len(rows) * (TILE + TITLE + GAP) + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    shown = 0
    for row, (name, members) in enumerate(rows):
        top = GAP + row * (TILE + TITLE + GAP)
        pen.text((GAP, top), f"{plain_letters(name)}  ({len(members):,} in {split})", "black", font)
        for column, tile in enumerate(_tiles(members, columns, dataset.classes)):
            sheet.paste(Image.fromarray(tile), (GAP + column * (TILE + GAP), top + TITLE))
            shown += 1
    with atomic_path(path) as temporary:
        sheet.save(temporary, "PNG")
    return shown


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
            tile, _ = open_square(sample.path, TILE, sample.label.resize)
            tile = sample.label.draw(tile, classes)
        except DataError:
            continue
        tiles.append(tile)
    return tiles
