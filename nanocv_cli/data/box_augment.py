"""Augmentation of images whose objects are boxed: the pixels and the boxes go through the same views."""

import torch
from torch import Tensor

from nanocv_cli.config.schema import ViewAugment
from nanocv_cli.data.views import GREY, View, covers, paint, random_views

# An object of which less than this share of its area is still to be seen, or that has become thinner, is gone.
SMALLEST_SHARE = 0.3
SMALLEST_SIDE = 2.0


def augment_boxes(
    images: Tensor, targets: Tensor, size: int, config: ViewAugment, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random views of a batch.

    Args:
        images: uint8 [N,S,S,3].
        targets: float32 [N,M,6] as in `data/labels/boxes.py`, shares of the image.
        size: side of the result, pixels.
        config: `flip`, `rescale`, `min_scale`, `aspect`, `zoom_out` and `mosaic` are used.
        generator: CPU generator.

    Returns:
        uint8 [N,size,size,3] and float32 [N,M',6]; objects come first in each row, and M' is the most of any image.
    """
    count, side = images.shape[0], images.shape[1]
    painted = images.new_empty((count, size, size, 3))
    rows: list[Tensor] = []
    for index in range(count):
        views = random_views(index, count, side, size, config, generator)
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
