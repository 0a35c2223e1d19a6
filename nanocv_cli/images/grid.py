"""Images side by side in one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from nanocv_cli.files import atomic_path
from nanocv_cli.images.drawing import fit_text, plain_letters

GAP = 2
HEAD = 18  # height of a title
SMALLEST_SIDE = 96  # shown; smaller images are enlarged by whole factors
GROUND, INK = (245, 245, 245), (30, 30, 30)


def write_grid(
    blocks: Sequence[NDArray[np.uint8]], path: Path, titles: Sequence[str] = (), columns: int | None = None
) -> Path:
    """Writes blocks of images one below the other, each under its title where there are titles.

    Args:
        blocks: uint8 [n,S,S,3] each, not all empty.
        path: PNG to write.
        titles: one for each block, or none.
        columns: images in a row; None: a block is a row.
    """
    side = max(block.shape[1] for block in blocks if len(block))
    shown = side * max(1, -(-SMALLEST_SIDE // side))
    columns = columns or max(len(block) for block in blocks)
    head = HEAD if titles else 0
    lines = sum(-(-len(block) // columns) for block in blocks)
    size = (columns * (shown + GAP) + GAP, lines * (shown + GAP) + len(blocks) * head + GAP)
    grid = Image.new("RGB", size, GROUND)
    pen, face = ImageDraw.Draw(grid), ImageFont.load_default(13)
    top = GAP
    for number, block in enumerate(blocks):
        if titles:
            pen.text((GAP + 2, top + 1), fit_text(plain_letters(titles[number]), face, grid.width - 8), INK, font=face)
        top += head
        for start in range(0, len(block), columns):
            for column, image in enumerate(block[start : start + columns]):
                enlarged = Image.fromarray(image).resize((shown, shown), Image.Resampling.NEAREST)
                grid.paste(enlarged, (GAP + column * (shown + GAP), top))
            top += shown + GAP
    return write_image(np.asarray(grid), path)


def write_image(image: NDArray[np.uint8], path: Path) -> Path:
    """Writes uint8 [H,W,3] as a PNG file, its folders as well."""
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, "PNG")
    return path
