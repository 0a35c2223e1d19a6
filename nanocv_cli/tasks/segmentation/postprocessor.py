"""Masks in the size of the image, shares of classes, an overlay with a legend. No torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.tiles import MergeTiles, TileAnswer
from nanocv_cli.errors import ModelError
from nanocv_cli.images.resize import square_box
from nanocv_cli.tasks.postprocessor import Postprocessor, Result, expect_finite, unexpected_outputs

# Classes on fewer pixels than this share are not named.
SMALLEST_SHARE = 1e-3
# In the mask, of pixels that the model was not shown.
UNSEEN = 255


@dataclass(frozen=True)
class Region:
    """All pixels of a class: its name, mean confidence 0..1, and share 0..1 of the image."""

    label: str
    score: float
    share: float


@dataclass(frozen=True)
class SegmentationResult(Result):
    """An image's classes, largest first, and its mask: class indices uint8 [H,W] of the image's own size."""

    predictions: tuple[Region, ...]
    mask: NDArray[np.uint8]

    def to_json(self) -> dict[str, Any]:
        """`predictions`: label, score and share of each."""
        return {"predictions": [asdict(region) for region in self.predictions]}

    def to_text(self) -> str:
        """The classes and what they cover."""
        return "  ".join(f"{region.label} {100 * region.share:.1f} %" for region in self.predictions) or "nothing"

    def attached(self) -> dict[str, NDArray[np.uint8]]:
        """The raw mask, uint8 [H,W]."""
        return {"mask": self.mask}


class SegmentationPostprocessor(Postprocessor[SegmentationResult]):
    """See `Postprocessor`."""

    top = 30

    def postprocess(
        self, outputs: Mapping[str, NDArray[Any]], card: ModelCard, top: int, sizes: Sequence[tuple[int, int]]
    ) -> list[SegmentationResult]:
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
            raise unexpected_outputs(card, outputs, "mask [N,H,W] and confidence [N,H,W]")
        expect_finite(card, confidence)
        if masks.size and masks.max() >= len(card.classes):
            raise ModelError(
                f"the graph of {card.name} answers class {masks.max()}, its card names {len(card.classes)}",
                "export it again: nanocv export onnx --model RUN",
            )
        return [
            _segmentation(mask, sure, card, top, size)
            for mask, sure, size in zip(masks, confidence, sizes, strict=True)
        ]

    def draw(self, image: NDArray[np.uint8], result: SegmentationResult, card: ModelCard) -> NDArray[np.uint8]:
        """The image uint8 [H,W,3] with classes in colours over it and a legend in a corner; see `overlay_classes`."""
        from nanocv_cli.images.drawing import BACKGROUND, class_colour, draw_legend, overlay_classes

        canvas = Image.fromarray(overlay_classes(image, result.mask, card.classes))
        named = [card.classes.index(region.label) for region in result.predictions]
        draw_legend(canvas, [(card.classes[n], class_colour(n)) for n in named if card.classes[n] != BACKGROUND])
        return np.asarray(canvas)

    def tile_merger(self, card: ModelCard) -> MergeTiles:
        """See `paste_tiles`."""
        return paste_tiles


def _segmentation(
    mask: NDArray[np.uint8], sure: NDArray[Any], card: ModelCard, top: int, size: tuple[int, int]
) -> SegmentationResult:
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
    return SegmentationResult(regions, _in_own_size(mask, card, size))


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


def paste_tiles(answers: Iterable[TileAnswer], size: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """The outputs for an image, each pixel from the tile that sees furthest around it.

    Args:
        answers: outputs [1,S,S] by name for each tile.
        size: width and height of the image, pixels.

    Returns:
        outputs [1,H,W] by name, whole numbers as they are and the others as float16.
    """
    width, height = size
    whole: dict[str, NDArray[Any]] = {}
    for answer in answers:
        down, across = answer.tile.down, answer.tile.across
        for name, values in answer.outputs.items():
            kind = values.dtype if np.issubdtype(values.dtype, np.integer) else np.dtype(np.float16)
            target = whole.setdefault(name, np.empty((1, height, width), kind))
            seen = Image.fromarray(values[0]).resize(
                (across.stop - across.start, down.stop - down.start), Image.Resampling.NEAREST
            )
            target[0, down.first : down.last, across.first : across.last] = np.asarray(seen)[
                down.first - down.start : down.last - down.start,
                across.first - across.start : across.last - across.start,
            ]
    return whole
