"""Reads a classification graph: probabilities become named answers, answers become images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.results import Classification, Prediction
from nanocv_cli.errors import ModelError

OUTPUT = "probabilities"
TOP = 5
ANSWERS_PIXELS = False
DRAWN = 3


def decode(
    outputs: Mapping[str, NDArray[Any]], card: ModelCard, top: int = TOP, sizes: Sequence[tuple[int, int]] = ()
) -> list[Classification]:
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
        found = ", ".join(f"{name} {list(value.shape)}" for name, value in outputs.items())
        raise ModelError(
            f"the graph of {card.name} returns {found}, not {OUTPUT} [N,{len(card.classes)}]",
            "export it again: nanocv export onnx --model RUN",
        )
    if not np.isfinite(probabilities).all():
        raise ModelError(f"the graph of {card.name} answers NaN or infinity", "train it again, or export it as fp32")
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return [
        Classification(tuple(Prediction(card.classes[label], float(row[label])) for label in labels))
        for row, labels in zip(probabilities, order, strict=True)
    ]


def draw(image: NDArray[np.uint8], result: Classification, card: ModelCard) -> NDArray[np.uint8]:
    """The image uint8 [H,W,3] with its three most probable classes on a card in the lower left corner."""
    from nanocv_cli.images.drawing import class_colour, draw_score_card

    canvas = Image.fromarray(image)
    rows = [(p.label, p.score, class_colour(card.classes.index(p.label))) for p in result.predictions[:DRAWN]]
    draw_score_card(canvas, rows)
    return np.asarray(canvas)
