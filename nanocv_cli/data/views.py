"""Random views of a batch whose labels stand at places: boxes and masks follow the very views that the pixels took.

Pixels are blended, labels never are.
"""

from dataclasses import replace

import torch
from torch import Tensor

from nanocv_cli.config.schema import ViewAugment
from nanocv_cli.data.augment import members
from nanocv_cli.data.batches import Share
from nanocv_cli.data.painting import Views, paint_images, paint_masks
from nanocv_cli.data.random_views import random_views

# An object of which less than this share of its area is still to be seen, or that has become thinner, is gone.
SMALLEST_SHARE = 0.3
SMALLEST_SIDE = 2.0


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
        targets: float32 [N,M,6] of them as in `data/labels/boxes.py`, shares of the image; on the CPU.
        size: side of the result, pixels.
        config: `flip`, `rescale`, `min_scale`, `aspect`, `zoom_out` and `mosaic` are used.
        generator: CPU generator.
        share: of the batch; None: all of it.

    Returns:
        of the share's images uint8 [n,size,size,3], and on the CPU float32 [n,M',6]; objects come first in each row,
        and M' is the most of any image.
    """
    views = _views(images, size, config, generator, share or Share(0, len(images), len(images)))
    return paint_images(images, views, size), _moved(targets, views, images.shape[1], size)


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
        config: see `augment_boxes`.
        generator: CPU generator.
        share: of the batch; None: all of it.

    Returns:
        of the share's images uint8 [n,size,size,3] and uint8 [n,size,size]; what shows no image is ignored.
    """
    views = _views(images, size, config, generator, share or Share(0, len(images), len(images)))
    return paint_images(images, views, size), paint_masks(masks, views, size)


def _views(images: Tensor, size: int, config: ViewAugment, generator: torch.Generator, share: Share) -> Views:
    """What each image of a share is painted from; sources are places in `images`, the whole batch's or the share's."""
    drawn = [random_views(index, share.total, images.shape[1], size, config, generator) for index in range(share.total)]
    own = [drawn[place] for place in share.places]
    if len(images) == share.total:
        return own
    return [[replace(view, source=view.source - share.first) for view in views] for views in own]


def _moved(targets: Tensor, views: Views, side: int, size: int) -> Tensor:
    """The objects that the views still show, in shares of the result, float32 [N,M',6]."""
    flat = [(canvas, view) for canvas, seen in enumerate(views) for view in seen]
    rows = targets[[view.source for _, view in flat]]
    windows = torch.tensor([[view.window.left, view.window.top, view.window.width, view.window.height]
                            for _, view in flat], dtype=torch.float64).unsqueeze(1)  # fmt: skip
    places = torch.tensor([[view.target.left, view.target.top, view.target.width, view.target.height]
                           for _, view in flat], dtype=torch.float64).unsqueeze(1)  # fmt: skip
    scale = (places[..., 2:] / windows[..., 2:]).float().repeat(1, 1, 2)
    origin, limits, corner = (
        part.float().repeat(1, 1, 2) for part in (windows[..., :2], places[..., 2:], places[..., :2])
    )
    boxes = (rows[..., :4] * side - origin) * scale
    width = limits[..., 0]
    x0, y0, x1, y1 = boxes.unbind(2)
    mirrored = torch.stack([width - x1, y0, width - x0, y1], 2)
    boxes = torch.where(torch.tensor([view.mirrored for _, view in flat]).view(-1, 1, 1), mirrored, boxes)
    clipped = boxes.clamp(min=0.0).minimum(limits)
    sides, whole = clipped[..., 2:] - clipped[..., :2], boxes[..., 2:] - boxes[..., :2]
    share = sides.prod(2) / whole.prod(2).clamp(min=1e-9)
    is_seen = (rows[..., 4] >= 0) & (share >= SMALLEST_SHARE) & (sides.amin(2) >= SMALLEST_SIDE)
    found = torch.cat([(clipped + corner) / size, rows[..., 4:]], 2)[is_seen]
    counts = torch.zeros(len(views), dtype=torch.int64)
    counts.index_add_(0, torch.tensor([canvas for canvas, _ in flat]), is_seen.sum(1))
    moved = targets.new_full((len(views), max(1, int(counts.max())), 6), -1.0)
    moved[members(counts)] = found
    return moved
