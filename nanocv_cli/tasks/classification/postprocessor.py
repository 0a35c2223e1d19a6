"""Probabilities become named answers, answers become a card on the image. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.tasks.postprocessor import Postprocessor, Result, expect_finite, unexpected_outputs

OUTPUT = "probabilities"
DRAWN = 3


@dataclass(frozen=True)
class Prediction:
    """One answer: a class name and its probability, 0..1."""

    label: str
    score: float


@dataclass(frozen=True)
class ClassificationResult(Result):
    """An image's classes, most probable first."""

    predictions: tuple[Prediction, ...]

    def to_json(self) -> dict[str, Any]:
        """`predictions`: label and score of each."""
        return {"predictions": [asdict(prediction) for prediction in self.predictions]}

    def to_text(self) -> str:
        """All of them in one line."""
        return "  ".join(f"{prediction.label} {100 * prediction.score:.1f} %" for prediction in self.predictions)


class ClassificationPostprocessor(Postprocessor[ClassificationResult]):
    """See `Postprocessor`."""

    top = 5

    def postprocess(
        self, outputs: Mapping[str, NDArray[Any]], card: ModelCard, top: int, sizes: Sequence[tuple[int, int]]
    ) -> list[ClassificationResult]:
        """The `top` most probable classes of each image; of equals, the one that the card names first.

        Args:
            outputs: `probabilities` float [N, classes], each row 0..1.
            card: names the classes.
            top: answers per image.
            sizes: of the images; probabilities do not depend on them.

        Raises:
            ModelError: the graph has no such output, not one column for each class, or answers NaN or infinity.
        """
        probabilities = outputs.get(OUTPUT)
        if probabilities is None or probabilities.ndim != 2 or probabilities.shape[1] != len(card.classes):
            raise unexpected_outputs(card, outputs, f"{OUTPUT} [N,{len(card.classes)}]")
        expect_finite(card, probabilities)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        return [
            ClassificationResult(tuple(Prediction(card.classes[label], float(row[label])) for label in labels))
            for row, labels in zip(probabilities, order, strict=True)
        ]

    def draw(self, image: NDArray[np.uint8], result: ClassificationResult, card: ModelCard) -> NDArray[np.uint8]:
        """The image uint8 [H,W,3] with its three most probable classes on a card in the lower left corner."""
        from nanocv_cli.images.drawing import class_colour, draw_score_card

        canvas = Image.fromarray(image)
        rows = [(p.label, p.score, class_colour(card.classes.index(p.label))) for p in result.predictions[:DRAWN]]
        draw_score_card(canvas, rows)
        return np.asarray(canvas)
