"""One image of the set: composed, lit, and labelled from what is really visible."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nanocv_cli.data.flowers import scene
from nanocv_cli.data.flowers.species import draw_flower

SPECIES = ("daisy", "rose", "sunflower", "tulip")
# In this share of the images one smaller flower of another species stands among the others.
GUEST_SHARE = 0.2
# Below this, in pixels of a 256x256 image, a flower is too small a remnant to be labelled.
SMALLEST_AREA = 80
COUNTS, COUNT_ODDS = (1, 2, 3, 4, 5), (0.36, 0.26, 0.18, 0.12, 0.08)


@dataclass(frozen=True)
class VisibleFlower:
    """One flower head as far as it can be seen.

    Attributes:
        species: index into `SPECIES`.
        box: x0, y0, x1, y1 in pixels, the last two exclusive.
        area: visible pixels.
    """

    species: int
    box: tuple[int, int, int, int]
    area: int


@dataclass(frozen=True)
class FlowerImage:
    """An image with its labels.

    Attributes:
        image: uint8 [S, S, 3] RGB.
        mask: uint8 [S, S]; 0 background, 1 + species index where a labelled flower head is visible.
        flowers: what the mask shows, flower by flower.
        label: the species that covers most of the image, an index into `SPECIES`.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    flowers: tuple[VisibleFlower, ...]
    label: int


class _Generator(np.random.Generator):
    """NumPy's, with the same numbers; an image asks for some 700 single ones, each in a third of the time."""

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        return low + (high - low) * self.random() if size is None else super().uniform(low, high, size)


def draw_image(seed: int, split: str, index: int, size: int) -> FlowerImage:
    """Draws image `index` of a split; the same four arguments always give the same image.

    Classes take turns, so every split is balanced. A composition whose own species does not clearly dominate what is
    visible (it fell behind a leaf, say) is drawn anew.
    """
    label = index % len(SPECIES)
    for attempt in range(1000):
        rng = _Generator(np.random.PCG64((seed, zlib.crc32(split.encode()), index, attempt)))
        image = _compose(label, size, rng)
        own = sum(flower.area for flower in image.flowers if flower.species == label)
        guests = sum(flower.area for flower in image.flowers) - own
        if own >= 0.03 * size * size and own >= 2 * guests:
            return image
    raise AssertionError("a thousand compositions without a visible flower")


def _compose(label: int, size: int, rng: np.random.Generator) -> FlowerImage:
    light = rng.uniform(np.pi, 2 * np.pi)
    canvas = scene.background(size, rng)
    owners = np.full((size, size), -1, np.int16)
    places = _places(label, size, rng)
    heads = [(kind, centre, radius, *draw_flower(SPECIES[kind], radius, light, rng)) for kind, centre, radius in places]
    # All stems stand behind all heads: a head is hidden only by what the map of owners knows of.
    for _, centre, radius, _, stem_angle in heads:
        foot = (centre[0] + np.cos(stem_angle) * radius * 0.5, centre[1] + np.sin(stem_angle) * radius * 0.5)
        scene.draw_stem(canvas, foot, stem_angle, radius * rng.uniform(0.07, 0.12), rng)
    for owner, (_, centre, _, layer, _) in enumerate(heads):
        scene.paste_layer(canvas, layer, centre)
        cover = Image.new("L", (size, size))
        scene.paste_layer(cover, layer, centre)
        owners[np.asarray(cover) > 127] = owner
    front, cover = scene.foreground(size, rng)
    canvas.paste(front, mask=cover)
    owners[np.asarray(cover) > 127] = -1
    image = scene.through_the_lens(canvas, rng)
    return _label(image, owners, [kind for kind, _, _ in places], label)


def _places(label: int, size: int, rng: np.random.Generator) -> list[tuple[int, tuple[float, float], float]]:
    """Species, centre and radius of each flower, the farthest first."""
    count = int(rng.choice(COUNTS, p=COUNT_ODDS))
    largest = {1: 0.36, 2: 0.28, 3: 0.23, 4: 0.20, 5: 0.18}[count] * size
    kinds = [label] * count
    if rng.random() < GUEST_SHARE:
        kinds.insert(0, int((label + rng.integers(1, len(SPECIES))) % len(SPECIES)))
    placed: list[tuple[int, tuple[float, float], float]] = []
    for kind in kinds:
        guest = kind != label
        radius = largest * (rng.uniform(0.35, 0.5) if guest else rng.uniform(0.55, 1.0))
        for _ in range(30):
            centre = (rng.uniform(0.08, 0.92) * size, rng.uniform(0.1, 0.85) * size)
            # Flowers may overlap, but none hides another.
            if all(np.hypot(centre[0] - c[0], centre[1] - c[1]) > 0.75 * (radius + r) for _, c, r in placed):
                placed.append((kind, centre, radius))
                break
    return sorted(placed, key=lambda place: place[2])


def _label(image: NDArray[np.uint8], owners: NDArray[np.int16], species: list[int], label: int) -> FlowerImage:
    """Reads boxes and mask off the map of visible owners."""
    mask = np.zeros(owners.shape, np.uint8)
    flowers = []
    smallest = SMALLEST_AREA * (owners.shape[0] / 256) ** 2
    for owner, kind in enumerate(species):
        own = owners == owner
        area = int(np.count_nonzero(own))
        if area < smallest:
            continue
        mask[own] = 1 + kind
        rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        flowers.append(VisibleFlower(kind, box, area))
    return FlowerImage(image, mask, tuple(flowers), label)
