"""A tiny set of labelled pixels: coloured rectangles on grey, masks as index images."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (40, 60, 220), "red": (220, 40, 50)}


def write_masked_set(folder: Path, counts: dict[str, int], size: tuple[int, int] = (96, 64)) -> Path:
    """Writes `{split}/images` and `{split}/masks`; values 0 background, 1 blue, 2 red, 255 along one edge."""
    random = np.random.default_rng(0)
    width, height = size
    for split, count in counts.items():
        (folder / split / "images").mkdir(parents=True, exist_ok=True)
        (folder / split / "masks").mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = random.integers(90, 130, (height, width, 3), np.uint8)
            mask = np.zeros((height, width), np.uint8)
            for _ in range(int(random.integers(1, 4))):
                label = int(random.integers(1, 3))
                w, h = int(random.integers(16, 40)), int(random.integers(16, 32))
                x, y = int(random.integers(0, width - w)), int(random.integers(0, height - h))
                image[y : y + h, x : x + w] = list(COLOURS.values())[label - 1]
                mask[y : y + h, x : x + w] = label
            mask[:2] = 255
            Image.fromarray(image).save(folder / split / "images" / f"{number:03d}.png")
            Image.fromarray(mask).save(folder / split / "masks" / f"{number:03d}.png")
    return folder
