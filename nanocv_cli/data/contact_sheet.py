"""A contact sheet: images of every class side by side, the class written above them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from nanocv_cli.data.boxes import LABEL, Boxes
from nanocv_cli.data.dataset import Dataset, Sample
from nanocv_cli.data.masks import IGNORED, Mask, square_mask
from nanocv_cli.errors import DataError
from nanocv_cli.files import atomic_path
from nanocv_cli.images.drawing import Frame, class_colour, draw_frames, plain_letters
from nanocv_cli.images.resize import open_square

TILE = 144
GAP = 6
TITLE = 22
MOST_ROWS = 300
LOOKED_AT = 300  # masks that are opened to find images of each class


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
    shown_by = [(sample, _classes_in(sample.label)) for sample in _spread(samples, LOOKED_AT)]
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
    """At most so many, evenly over all; only masks have to be opened to see what they hold."""
    if len(samples) <= most or not hasattr(samples[0].label, "read"):
        return list(samples)
    return [samples[index] for index in np.linspace(0, len(samples) - 1, most).round().astype(int)]


def _classes_in(label: Any) -> set[int]:
    """The classes an image shows: of its folder, its boxes, or its mask."""
    if isinstance(label, Boxes):
        return set(label.labels)
    if not hasattr(label, "read"):
        return {int(label)}
    try:
        return {int(value) for value in np.unique(label.read())}
    except DataError:
        return set()


def _tiles(samples: list[Sample[Any]], count: int, classes: tuple[str, ...]) -> list[NDArray[np.uint8]]:
    tiles = []
    for index in np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int):
        sample = samples[index]
        is_plain = not isinstance(sample.label, Boxes) and not hasattr(sample.label, "read")
        try:
            tile, _ = open_square(sample.path, TILE, "crop" if is_plain else "stretch")
            if isinstance(sample.label, Boxes):
                tile = _framed(tile, sample.label, classes)
            elif not is_plain:
                tile = _coloured(tile, sample.label, classes)
        except DataError:
            continue
        tiles.append(tile)
    return tiles


def _coloured(tile: NDArray[np.uint8], mask: Mask, classes: tuple[str, ...]) -> NDArray[np.uint8]:
    """The mask over the image; what is ignored, and a background, stay clear."""
    labels = square_mask(mask.read(), TILE, "stretch")
    colours = np.zeros((256, 3), np.float32)
    colours[: len(classes)] = [class_colour(label) for label in range(len(classes))]
    clear = (labels == IGNORED) | ((labels == 0) & (classes[0] == "background"))
    share = np.where(clear, 0.0, 0.55)[..., None]
    return (tile * (1.0 - share) + colours[labels] * share).round().astype(np.uint8)


def _framed(tile: NDArray[np.uint8], boxes: Boxes, classes: tuple[str, ...]) -> NDArray[np.uint8]:
    image = Image.fromarray(tile)
    frames = [
        Frame(tuple(row[:4] * TILE), classes[int(row[LABEL])], class_colour(int(row[LABEL]))) for row in boxes.rows()
    ]
    draw_frames(image, frames)
    return np.asarray(image)
