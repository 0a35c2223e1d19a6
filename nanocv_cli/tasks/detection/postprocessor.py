"""Boxes become named objects in pixels of the image, objects become a drawing. No torch."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.tiles import MergeTiles
from nanocv_cli.errors import ModelError
from nanocv_cli.tasks.detection.boxes import join_tiles
from nanocv_cli.tasks.postprocessor import Postprocessor, Result, expect_finite, unexpected_outputs

# Shown where the card knows no better threshold for a class.
SHOWN_SCORE = 0.3
LOWEST_SHOWN, HIGHEST_SHOWN = 0.1, 0.6


@dataclass(frozen=True)
class DetectedObject:
    """One object: its class, score 0..1, and box x0, y0, x1, y1 in pixels of the original image."""

    label: str
    score: float
    box: tuple[float, ...]


@dataclass(frozen=True)
class DetectionResult(Result):
    """An image's objects, surest first."""

    predictions: tuple[DetectedObject, ...]

    def to_json(self) -> dict[str, Any]:
        """`predictions`: label, score and box of each; corners to a hundredth of a pixel."""
        return {
            "predictions": [
                {"label": found.label, "score": found.score, "box": [round(corner, 2) for corner in found.box]}
                for found in self.predictions
            ]
        }

    def to_text(self) -> str:
        """How many of each class."""
        counts = Counter(found.label for found in self.predictions)
        return ", ".join(f"{count} {label}" for label, count in counts.most_common()) or "nothing"


class DetectionPostprocessor(Postprocessor[DetectionResult]):
    """See `Postprocessor`."""

    top = 100

    def postprocess(
        self, outputs: Mapping[str, NDArray[Any]], card: ModelCard, top: int, sizes: Sequence[tuple[int, int]]
    ) -> list[DetectionResult]:
        """The objects of each image, surest first: those whose score reaches their class's threshold.

        A class's threshold is the one with the best F1 on the split that the card was measured on.

        Args:
            outputs: `boxes` float [N,K,4] xyxy in 0..1, `scores` [N,K], `labels` [N,K].
            card: names the classes.
            top: most objects per image.
            sizes: width and height of each image, pixels.

        Raises:
            ModelError: the graph has no such outputs, or answers NaN, infinity or a class that the card does not name.
        """
        boxes, scores, labels = _checked(outputs, card)
        thresholds = _thresholds(card)
        found = []
        for corners, sure, classes, (width, height) in zip(boxes, scores, labels, sizes, strict=True):
            places = np.flatnonzero((sure > 0.0) & (sure >= thresholds[classes]))
            places = places[np.argsort(-sure[places], kind="stable")][:top]
            pixels = corners.clip(0.0, 1.0) * (width, height, width, height)
            found.append(DetectionResult(tuple(
                DetectedObject(card.classes[classes[place]], float(sure[place]), tuple(map(float, pixels[place])))
                for place in places
            )))  # fmt: skip
        return found

    def draw(self, image: NDArray[np.uint8], result: DetectionResult, card: ModelCard) -> NDArray[np.uint8]:
        """The image uint8 [H,W,3] with a frame around each object, its class and score on it."""
        from nanocv_cli.images.drawing import Frame, class_colour, draw_frames

        canvas = Image.fromarray(image)
        frames = [
            Frame(found.box, f"{found.label} {100 * found.score:.0f}", class_colour(card.classes.index(found.label)))
            for found in result.predictions
        ]
        draw_frames(canvas, frames)
        return np.asarray(canvas)

    def tile_merger(self, card: ModelCard) -> MergeTiles:
        """See `boxes.join_tiles`."""
        return partial(join_tiles, thresholds=_thresholds(card))


def _thresholds(card: ModelCard) -> NDArray[np.float64]:
    """The lowest score of each class that is shown."""
    return np.array([_threshold(card, name) for name in card.classes])


def _threshold(card: ModelCard, name: str) -> float:
    per_class = card.metrics.get("per_class")
    entry = per_class.get(name) if isinstance(per_class, dict) else None
    value = entry.get("threshold") if isinstance(entry, dict) else None
    is_score = isinstance(value, int | float) and not isinstance(value, bool)
    return min(HIGHEST_SHOWN, max(LOWEST_SHOWN, float(value))) if is_score and value is not None else SHOWN_SCORE


def _checked(
    outputs: Mapping[str, NDArray[Any]], card: ModelCard
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    boxes, scores, labels = (outputs.get(name) for name in ("boxes", "scores", "labels"))
    if (
        boxes is None or scores is None or labels is None
        or boxes.ndim != 3 or boxes.shape != (*scores.shape, 4) or labels.shape != scores.shape
    ):  # fmt: skip
        raise unexpected_outputs(card, outputs, "boxes [N,K,4], scores [N,K] and labels [N,K]")
    expect_finite(card, boxes, scores)
    numbers = np.where(scores > 0.0, labels, 0).astype(np.int64)
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(card.classes):
        raise ModelError(
            f"the graph of {card.name} answers class {numbers.max()}, its card names {len(card.classes)}",
            "export it again: nanocv export onnx --model RUN",
        )
    return boxes.astype(np.float64), scores.astype(np.float64), numbers
