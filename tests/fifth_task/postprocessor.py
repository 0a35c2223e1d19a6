"""The side without torch: what the graph's answer means, and how it is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.tasks.postprocessor import Postprocessor, Result


@dataclass(frozen=True)
class CountResult(Result):
    label: str
    count: float

    def to_json(self) -> dict[str, Any]:
        return {"predictions": [{"label": self.label, "count": round(self.count, 3)}]}

    def to_text(self) -> str:
        return f"{self.count:.1f} {self.label}"


class CountingPostprocessor(Postprocessor[CountResult]):
    top = 1

    def postprocess(
        self, outputs: Mapping[str, NDArray[Any]], card: ModelCard, top: int, sizes: Sequence[tuple[int, int]]
    ) -> list[CountResult]:
        return [CountResult(card.classes[0], float(count)) for count in outputs["count"]]

    def draw(self, image: NDArray[np.uint8], result: CountResult, card: ModelCard) -> NDArray[np.uint8]:
        canvas = Image.fromarray(image)
        ImageDraw.Draw(canvas).text((1, 1), f"{result.count:.0f}", fill=(255, 255, 255))
        return np.asarray(canvas)
