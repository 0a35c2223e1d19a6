"""The side without torch: what the graph's answer means, and how it is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nanocv_cli.engine.card import ModelCard

TOP = 1
ANSWERS_PIXELS = False


@dataclass(frozen=True)
class Count:
    label: str
    count: float

    def to_json(self) -> dict[str, Any]:
        return {"predictions": [{"label": self.label, "count": round(self.count, 3)}]}

    def to_text(self) -> str:
        return f"{self.count:.1f} {self.label}"

    def attached(self) -> dict[str, NDArray[np.uint8]]:
        return {}


def decode(
    outputs: Mapping[str, NDArray[Any]], card: ModelCard, top: int, sizes: Sequence[tuple[int, int]]
) -> list[Count]:
    return [Count(card.classes[0], float(count)) for count in outputs["count"]]


def draw(image: NDArray[np.uint8], result: Count, card: ModelCard) -> NDArray[np.uint8]:
    canvas = Image.fromarray(image)
    ImageDraw.Draw(canvas).text((1, 1), f"{result.count:.0f}", fill=(255, 255, 255))
    return np.asarray(canvas)
