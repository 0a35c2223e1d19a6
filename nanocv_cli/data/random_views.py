"""Views drawn at random: which windows of which images a training image is painted from.

One view of the image itself, or four views of images of the batch (mosaic, arXiv:2004.10934). Plain numbers on the CPU;
no pixel is looked at.
"""

import math
from dataclasses import dataclass

import torch

from nanocv_cli.config.schema import ViewAugment

# Where the four views of a mosaic meet, as a share of the side.
MOSAIC_CENTRE = (0.3, 0.7)


@dataclass(frozen=True)
class Rectangle:
    """Whole pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class View:
    """A window of an image, and where it is painted.

    Attributes:
        source: index of the image in the batch.
        window: of the image; inside it.
        target: of the result; inside it.
        mirrored: left and right are exchanged.
    """

    source: int
    window: Rectangle
    target: Rectangle
    mirrored: bool


def random_views(
    index: int, count: int, side: int, size: int, config: ViewAugment, generator: torch.Generator
) -> list[View]:
    """The views that image `index` of a batch is painted from.

    Args:
        index: of the image.
        count: images in the batch.
        side: of each of them, pixels.
        size: side of the result, pixels.
        config: `flip`, `rescale`, `min_scale`, `aspect`, `zoom_out` and `mosaic` are used.
        generator: CPU generator.
    """
    chance, across, down = torch.rand(3, generator=generator).tolist()
    if chance >= config.mosaic:
        return [_view(index, side, Rectangle(0, 0, size, size), size, config, generator)]
    low, high = MOSAIC_CENTRE
    x, y = (round(size * (low + (high - low) * share)) for share in (across, down))
    others = torch.randint(count, (3,), generator=generator).tolist()
    parts = (Rectangle(0, 0, x, y), Rectangle(x, 0, size - x, y), Rectangle(0, y, x, size - y),
             Rectangle(x, y, size - x, size - y))  # fmt: skip
    sources = (index, *others)
    return [_view(source, side, part, size, config, generator) for source, part in zip(sources, parts, strict=True)]


def _view(source: int, side: int, part: Rectangle, size: int, config: ViewAugment, generator: torch.Generator) -> View:
    """A random window for a part of the result; a window larger than the image leaves a border of grey."""
    area, shape, left, top, chance, mirror = torch.rand(6, generator=generator).tolist()
    if chance >= config.rescale:
        wanted_width, wanted_height = float(min(side, part.width)), float(min(side, part.height))
    else:
        # Logarithm of the window's side as a share of the image's, from the smallest crop to the widest zoom out.
        low, high = 0.5 * math.log(config.min_scale), math.log(config.zoom_out)
        zoom = math.exp(low + (high - low) * area)
        stretch = math.exp((shape - 0.5) * math.log(config.aspect))
        wanted_width = side * zoom * stretch * part.width / size
        wanted_height = side * zoom / stretch * part.height / size
    window_width, x, target_width = _line(wanted_width, side, part.width, left)
    window_height, y, target_height = _line(wanted_height, side, part.height, top)
    target = Rectangle(part.left + x.offset_in_target, part.top + y.offset_in_target, target_width, target_height)
    window = Rectangle(x.offset_in_window, y.offset_in_window, window_width, window_height)
    return View(source, window, target, config.flip and mirror < 0.5)


@dataclass(frozen=True)
class _Offsets:
    offset_in_window: int
    offset_in_target: int


def _line(wanted: float, side: int, length: int, place: float) -> tuple[int, _Offsets, int]:
    """One axis: the window's length and place in the image, and the length and place of its target.

    Args:
        wanted: length of the window, pixels of the image; may exceed its side.
        side: of the image.
        length: of the part of the result.
        place: 0..1, where the window lies in what it may move in.
    """
    window = min(side, max(1, round(wanted)))
    if wanted <= side:
        return window, _Offsets(round(place * (side - window)), 0), length
    target = max(1, round(length * side / wanted))
    return window, _Offsets(0, round(place * (length - target))), target
