"""Views of a batch: which windows of which images a training image is painted from.

One view of the image itself, or four views of images of the batch (mosaic, arXiv:2004.10934). Boxes and masks
follow the very views that the pixels took; pixels are blended, labels never are.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from nanocv_cli.config.schema import ViewAugment
from nanocv_cli.data.augment import resize_to
from nanocv_cli.data.batches import Share
from nanocv_cli.data.labels.masks import IGNORED

GREY = 114
# Where the four views of a mosaic meet, as a share of the side.
MOSAIC_CENTRE = (0.3, 0.7)
# An object of which less than this share of its area is still to be seen, or that has become thinner, is gone.
SMALLEST_SHARE = 0.3
SMALLEST_SIDE = 2.0


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


def paint(image: Tensor, view: View, canvas: Tensor) -> None:
    """Paints one view of an image uint8 [S,S,3] onto a canvas uint8 [size,size,3], bilinear."""
    window, target = view.window, view.target
    seen = image[window.top : window.top + window.height, window.left : window.left + window.width]
    drawn = resize_to(seen.unsqueeze(0), target.height, target.width)[0]
    place = canvas[target.top : target.top + target.height, target.left : target.left + target.width]
    place.copy_(drawn.flip(1) if view.mirrored else drawn)


def paint_labels(mask: Tensor, view: View, canvas: Tensor) -> None:
    """Paints one view of a mask uint8 [S,S] onto a canvas uint8 [size,size], each value that of its nearest pixel.

    No value ever appears that the mask does not hold.
    """
    window, target = view.window, view.target
    seen = mask[window.top : window.top + window.height, window.left : window.left + window.width]
    drawn = F.interpolate(seen[None, None], (target.height, target.width), mode="nearest-exact")[0, 0]
    place = canvas[target.top : target.top + target.height, target.left : target.left + target.width]
    place.copy_(drawn.flip(1) if view.mirrored else drawn)


def covers(views: list[View], size: int) -> bool:
    """Whether a single view fills the whole result, so that no ground shows."""
    return len(views) == 1 and views[0].target == Rectangle(0, 0, size, size)


def _drawn_views(
    images: Tensor, size: int, config: ViewAugment, generator: torch.Generator, share: Share
) -> list[list[View]]:
    """What each image of a share is painted from; sources are places in `images`, the whole batch's or the share's."""
    drawn = [random_views(index, share.total, images.shape[1], size, config, generator) for index in range(share.total)]
    own = [drawn[place] for place in share.places]
    if len(images) == share.total:
        return own
    return [[replace(view, source=view.source - share.first) for view in views] for views in own]


def augment_boxes(
    images: Tensor,
    targets: Tensor,
    size: int,
    config: ViewAugment,
    generator: torch.Generator,
    share: Share | None = None,
) -> tuple[Tensor, Tensor]:
    """Random views of a batch, or of a share of it, whose objects are boxed.

    Args:
        images: uint8 [N,S,S,3], of the batch; where there is no mosaic, those of the share will do.
        targets: float32 [N,M,6] of them as in `data/labels/boxes.py`, shares of the image.
        size: side of the result, pixels.
        config: `flip`, `rescale`, `min_scale`, `aspect`, `zoom_out` and `mosaic` are used.
        generator: CPU generator.
        share: of the batch; None: all of it.

    Returns:
        of the share's images uint8 [n,size,size,3] and float32 [n,M',6]; objects come first in each row, and M' is the
        most of any image.
    """
    share = share or Share(0, len(images), len(images))
    count, side = share.count, images.shape[1]
    painted = images.new_empty((count, size, size, 3))
    rows: list[Tensor] = []
    for index, views in enumerate(_drawn_views(images, size, config, generator, share)):
        if not covers(views, size):
            painted[index] = GREY
        for view in views:
            paint(images[view.source], view, painted[index])
        rows.append(torch.cat([_moved(targets[view.source], view, side, size) for view in views]))
    most = max(1, *(len(found) for found in rows))
    moved = targets.new_full((count, most, 6), -1.0)
    for target, found in zip(moved, rows, strict=True):
        target[: len(found)] = found
    return painted, moved


def _moved(rows: Tensor, view: View, side: int, size: int) -> Tensor:
    """The objects that a view still shows, in shares of the result."""
    rows = rows[rows[:, 4] >= 0]
    window, target = view.window, view.target
    scale = rows.new_tensor([target.width / window.width, target.height / window.height]).repeat(2)
    origin = rows.new_tensor([window.left, window.top]).repeat(2)
    boxes = (rows[:, :4] * side - origin) * scale
    if view.mirrored:
        boxes = torch.stack([target.width - boxes[:, 2], boxes[:, 1], target.width - boxes[:, 0], boxes[:, 3]], 1)
    limits = boxes.new_tensor([target.width, target.height]).repeat(2)
    clipped = boxes.clamp(min=0.0).minimum(limits)
    sides, whole = clipped[:, 2:] - clipped[:, :2], boxes[:, 2:] - boxes[:, :2]
    share = sides.prod(1) / whole.prod(1).clamp(min=1e-9)
    is_seen = (share >= SMALLEST_SHARE) & (sides.amin(1) >= SMALLEST_SIDE)
    placed = (clipped + boxes.new_tensor([target.left, target.top]).repeat(2)) / size
    return torch.cat([placed, rows[:, 4:]], 1)[is_seen]


def augment_masks(
    images: Tensor,
    masks: Tensor,
    size: int,
    config: ViewAugment,
    generator: torch.Generator,
    share: Share | None = None,
) -> tuple[Tensor, Tensor]:
    """Random views of a batch, or of a share of it, whose pixels are labelled.

    Args:
        images: uint8 [N,S,S,3], of the batch; where there is no mosaic, those of the share will do.
        masks: uint8 [N,S,S] of them, class indices and `IGNORED`.
        size: side of the result, pixels.
        config: see `random_views`.
        generator: CPU generator.
        share: of the batch; None: all of it.

    Returns:
        of the share's images uint8 [n,size,size,3] and uint8 [n,size,size]; what shows no image is ignored.
    """
    share = share or Share(0, len(images), len(images))
    count = share.count
    painted, labelled = images.new_empty((count, size, size, 3)), masks.new_empty((count, size, size))
    for index, views in enumerate(_drawn_views(images, size, config, generator, share)):
        if not covers(views, size):
            painted[index], labelled[index] = GREY, IGNORED
        for view in views:
            paint(images[view.source], view, painted[index])
            paint_labels(masks[view.source], view, labelled[index])
    return painted, labelled
