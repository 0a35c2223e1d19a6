"""Augmentation of images with masks: pixels are blended, labels never are."""

import torch
from torch import Tensor

from nanocv_cli.config.schema import ViewAugment
from nanocv_cli.data.labels.masks import IGNORED
from nanocv_cli.data.views import GREY, covers, paint, paint_labels, random_views


def augment_masks(
    images: Tensor, masks: Tensor, size: int, config: ViewAugment, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random views of a batch.

    Args:
        images: uint8 [N,S,S,3].
        masks: uint8 [N,S,S], class indices and `IGNORED`.
        size: side of the result, pixels.
        config: see `views.random_views`.
        generator: CPU generator.

    Returns:
        uint8 [N,size,size,3] and uint8 [N,size,size]; what shows no image is ignored.
    """
    count, side = images.shape[0], images.shape[1]
    painted, labelled = images.new_empty((count, size, size, 3)), masks.new_empty((count, size, size))
    for index in range(count):
        views = random_views(index, count, side, size, config, generator)
        if not covers(views, size):
            painted[index], labelled[index] = GREY, IGNORED
        for view in views:
            paint(images[view.source], view, painted[index])
            paint_labels(masks[view.source], view, labelled[index])
    return painted, labelled
