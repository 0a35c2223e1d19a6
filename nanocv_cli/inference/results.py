"""Typed results: one per task, spoken by every reader."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """One answer: a class name and its probability, 0..1."""

    label: str
    score: float


@dataclass(frozen=True)
class Classification:
    """A picture's classes, most probable first."""

    predictions: tuple[Prediction, ...]

    def to_json(self) -> dict[str, Any]:
        """The `predictions` part of the JSON that `infer` prints."""
        return {"predictions": [asdict(prediction) for prediction in self.predictions]}

    def to_text(self) -> str:
        """The answer for people, in one line."""
        return "  ".join(f"{prediction.label} {100 * prediction.score:.1f} %" for prediction in self.predictions)
