"""A contact sheet: pictures of every class side by side, the class written above them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from nanocv_cli.data.boxes import LABEL, Boxes
from nanocv_cli.data.dataset import Dataset, Sample
from nanocv_cli.errors import DataError
from nanocv_cli.files import atomic_path
from nanocv_cli.inference.drawing import Frame, class_colour, draw_frames
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
    rows = [(name, [s for s in samples if _shows(s.label, label)]) for label, name in enumerate(dataset.classes)]
    rows = [(name, members) for name, members in rows if members]
    if not rows:
        raise DataError(f"no picture of {dataset.name} {split} has a label", "nanocv data check")
    columns = min(per_class, max(len(members) for _, members in rows))
    sheet = Image.new("RGB", (columns * (TILE + GAP) + GAP, len(rows) * (TILE + TITLE + GAP) + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    shown = 0
    for row, (name, members) in enumerate(rows):
        top = GAP + row * (TILE + TITLE + GAP)
        pen.text((GAP, top), f"{name}  ({len(members):,} in {split})", "black", font)
        for column, tile in enumerate(_tiles(members, columns, dataset.classes)):
            sheet.paste(Image.fromarray(tile), (GAP + column * (TILE + GAP), top + TITLE))
            shown += 1
    with atomic_path(path) as temporary:
        sheet.save(temporary, "PNG")
    return shown


def _shows(label: Any, wanted: int) -> bool:
    """Whether a picture belongs to a class: by its folder, or by one of its boxes."""
    return wanted in label.labels if isinstance(label, Boxes) else bool(label == wanted)


def _tiles(samples: list[Sample[Any]], count: int, classes: tuple[str, ...]) -> list[NDArray[np.uint8]]:
    tiles = []
    for index in np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int):
        sample = samples[index]
        try:
            image = open_image(sample.path)
        except UnreadableImageError:
            continue
        boxed = isinstance(sample.label, Boxes)
        tile = resize_to_square(image, TILE, "stretch" if boxed else "crop")
        tiles.append(_framed(tile, sample.label, classes) if boxed else tile)
    return tiles


def _framed(tile: NDArray[np.uint8], boxes: Boxes, classes: tuple[str, ...]) -> NDArray[np.uint8]:
    picture = Image.fromarray(tile)
    frames = [
        Frame(tuple(row[:4] * TILE), classes[int(row[LABEL])], class_colour(int(row[LABEL]))) for row in boxes.rows()
    ]
    draw_frames(picture, frames)
    return np.asarray(picture)
