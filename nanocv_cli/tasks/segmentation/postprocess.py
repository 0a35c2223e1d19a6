"""Reads a segmentation graph: masks in the size of the image, shares of classes, an overlay with a legend."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.results import Region, Segmentation
from nanocv_cli.errors import ModelError
from nanocv_cli.images.resize import square_box

TOP = 30
ANSWERS_PIXELS = True
# Classes on fewer pixels than this share are not named.
SMALLEST_SHARE = 1e-3
# In the mask, of pixels that the model was not shown.
UNSEEN = 255


def decode(
    outputs: Mapping[str, NDArray[Any]], card: ModelCard, top: int, sizes: Sequence[tuple[int, int]]
) -> list[Segmentation]:
    """Each image's mask, and the classes that cover it, largest first.

    Args:
        outputs: `mask` uint8 [N,S,S], `confidence` float [N,S,S].
        card: names the classes.
        top: most classes that are named.
        sizes: width and height of each image, pixels; masks are enlarged to them by nearest pixels.

    Raises:
        ModelError: the graph has no such outputs, or answers NaN or a class that the card does not name.
    """
    masks, confidence = outputs.get("mask"), outputs.get("confidence")
    if masks is None or confidence is None or masks.ndim != 3 or masks.shape != confidence.shape:
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in outputs.items())
        raise ModelError(
            f"the graph of {card.name} returns {shapes}, not mask [N,H,W] and confidence [N,H,W]",
            "export it again: nanocv export onnx --model RUN",
        )
    if not np.isfinite(confidence).all():
        raise ModelError(f"the graph of {card.name} answers NaN or infinity", "train it again, or export it as fp32")
    if masks.size and masks.max() >= len(card.classes):
        raise ModelError(
            f"the graph of {card.name} answers class {masks.max()}, its card names {len(card.classes)}",
            "export it again: nanocv export onnx --model RUN",
        )
    return [
        _segmentation(mask, sure, card, top, size) for mask, sure, size in zip(masks, confidence, sizes, strict=True)
    ]


def _segmentation(
    mask: NDArray[np.uint8], sure: NDArray[Any], card: ModelCard, top: int, size: tuple[int, int]
) -> Segmentation:
    counts = np.zeros(len(card.classes))
    sums = np.zeros(len(card.classes))
    for labels, shares in zip(mask, sure, strict=True):  # by rows: a large mask's copy in float64 would be larger still
        counts += np.bincount(labels, minlength=len(counts))
        sums += np.bincount(labels, shares, minlength=len(counts))
    order = [label for label in np.argsort(-counts, kind="stable") if counts[label] >= SMALLEST_SHARE * mask.size]
    regions = tuple(
        Region(card.classes[label], float(sums[label] / counts[label]), float(counts[label] / mask.size))
        for label in order[:top]
    )
    return Segmentation(regions, _in_own_size(mask, card, size))


def _in_own_size(mask: NDArray[np.uint8], card: ModelCard, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The mask enlarged to the image; `UNSEEN` where the image was cropped away."""
    width, height = size
    if mask.shape == (height, width):
        return mask
    left, upper, right, lower = (round(edge) for edge in square_box(width, height, card.resize))
    whole = np.full((height, width), UNSEEN, np.uint8)
    part = Image.fromarray(mask).resize((right - left, lower - upper), Image.Resampling.NEAREST)
    whole[upper:lower, left:right] = np.asarray(part)
    return whole


def draw(image: NDArray[np.uint8], result: Segmentation, card: ModelCard) -> NDArray[np.uint8]:
    """The image uint8 [H,W,3] with classes in colours over it and a legend in a corner; a background stays clear."""
    from nanocv_cli.images.drawing import BACKGROUND, class_colour, draw_legend, overlay_classes

    canvas = Image.fromarray(overlay_classes(image, result.mask, card.classes))
    named = [card.classes.index(region.label) for region in result.predictions]
    draw_legend(canvas, [(card.classes[n], class_colour(n)) for n in named if card.classes[n] != BACKGROUND])
    return np.asarray(canvas)
