"""A contact sheet: pictures of every class side by side, the class written above them."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nanocv_cli.data.dataset import Dataset
from nanocv_cli.files import atomic_path
from nanocv_cli.inference.images import UnreadableImageError, open_image, resize_to_square

TILE = 144
GAP = 6
TITLE = 22


def write_contact_sheet(dataset: Dataset[Any], split: str, path: Path, per_class: int = 8) -> int:
    """Writes one row of up to `per_class` pictures for each class as PNG.

    Pictures are spread evenly over each class, so the sheet shows the set and not its first minutes; unreadable ones
    are passed over.

    Returns:
        how many pictures the sheet shows.

    Raises:
        DataError: the split is empty.
    """
    samples = dataset.split(split)
    rows = [(name, [s.path for s in samples if s.label == label]) for label, name in enumerate(dataset.classes)]
    rows = [(name, paths) for name, paths in rows if paths]
    columns = min(per_class, max(len(paths) for _, paths in rows))
    sheet = Image.new("RGB", (columns * (TILE + GAP) + GAP, len(rows) * (TILE + TITLE + GAP) + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    shown = 0
    for row, (name, paths) in enumerate(rows):
        top = GAP + row * (TILE + TITLE + GAP)
        pen.text((GAP, top), f"{name}  ({len(paths):,} in {split})", "black", font)
        for column, tile in enumerate(_tiles(paths, columns)):
            sheet.paste(Image.fromarray(tile), (GAP + column * (TILE + GAP), top + TITLE))
            shown += 1
    with atomic_path(path) as temporary:
        sheet.save(temporary, "PNG")
    return shown


def _tiles(paths: list[Path], count: int) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    tiles = []
    for index in np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int):
        try:
            tiles.append(resize_to_square(open_image(paths[index]), TILE, "crop"))
        except UnreadableImageError:
            continue
    return tiles
