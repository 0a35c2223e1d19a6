"""Typed results: one per task, spoken by every reader."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prediction:
    """One answer: a class name and its probability, 0..1."""

    label: str
    score: float


@dataclass(frozen=True)
class Classification:
    """An image's classes, most probable first."""

    predictions: tuple[Prediction, ...]

    def to_json(self) -> dict[str, Any]:
        """The `predictions` part of the JSON that `infer` prints."""
        return {"predictions": [asdict(prediction) for prediction in self.predictions]}

    def to_text(self) -> str:
        """The answer for people, in one line."""
        return "  ".join(f"{prediction.label} {100 * prediction.score:.1f} %" for prediction in self.predictions)

    def attached(self) -> dict[str, NDArray[np.uint8]]:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class DetectedObject:
    """One object: its class, score 0..1, and box x0, y0, x1, y1 in pixels of the original image."""

    label: str
    score: float
    box: tuple[float, ...]


@dataclass(frozen=True)
class Detection:
    """An image's objects, surest first."""

    predictions: tuple[DetectedObject, ...]

    def to_json(self) -> dict[str, Any]:
        """The `predictions` part of the JSON that `infer` prints; corners to a hundredth of a pixel."""
        return {
            "predictions": [
                {"label": found.label, "score": found.score, "box": [round(corner, 2) for corner in found.box]}
                for found in self.predictions
            ]
        }

    def to_text(self) -> str:
        """How many of each class, for people."""
        counts = Counter(found.label for found in self.predictions)
        return ", ".join(f"{count} {label}" for label, count in counts.most_common()) or "nothing"

    def attached(self) -> dict[str, NDArray[np.uint8]]:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class Region:
    """All pixels of a class: its name, mean confidence 0..1, and share 0..1 of the image."""

    label: str
    score: float
    share: float


@dataclass(frozen=True)
class Segmentation:
    """An image's classes, largest first, and its mask: class indices uint8 [H,W] of the image's own size."""

    predictions: tuple[Region, ...]
    mask: NDArray[np.uint8]

    def to_json(self) -> dict[str, Any]:
        """The `predictions` part of the JSON that `infer` prints."""
        return {"predictions": [asdict(region) for region in self.predictions]}

    def to_text(self) -> str:
        """The classes and what they cover, for people."""
        return "  ".join(f"{region.label} {100 * region.share:.1f} %" for region in self.predictions) or "nothing"

    def attached(self) -> dict[str, NDArray[np.uint8]]:
        """The raw mask, uint8 [H,W]."""
        return {"mask": self.mask}
