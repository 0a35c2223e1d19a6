"""Reads a classification graph: probabilities become named answers, answers become pictures."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nanocv_cli.errors import ModelError
from nanocv_cli.inference.card import ModelCard
from nanocv_cli.inference.drawing import class_colour, score_rows
from nanocv_cli.inference.results import Classification, Prediction

DRAWN = 3


def decode(outputs: Mapping[str, NDArray[Any]], card: ModelCard, top: int = 5) -> list[Classification]:
    """The `top` most probable classes of each picture.

    Args:
        outputs: `probabilities` float [N, classes].
        card: names the classes.
        top: answers per picture.

    Raises:
        ModelError: the graph has no such output, or not one column for each class.
    """
    probabilities = outputs.get("probabilities")
    if probabilities is None or probabilities.ndim != 2 or probabilities.shape[1] != len(card.classes):
        found = {name: list(value.shape) for name, value in outputs.items()}
        raise ModelError(f"the graph of {card.name} returns {found}, not probabilities [N,{len(card.classes)}]")
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return [
        Classification(tuple(Prediction(card.classes[label], float(row[label])) for label in labels))
        for row, labels in zip(probabilities, order, strict=True)
    ]


def draw(image: NDArray[np.uint8], result: Classification, card: ModelCard) -> NDArray[np.uint8]:
    """The picture with its three most probable classes as bars along the lower edge."""
    picture = Image.fromarray(image)
    panel = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    rows = [(p.label, p.score, class_colour(card.classes.index(p.label))) for p in result.predictions[:DRAWN]]
    score_rows(ImageDraw.Draw(panel), picture.width, picture.height, rows)
    return np.asarray(Image.alpha_composite(picture.convert("RGBA"), panel).convert("RGB"))
