"""Probabilities become named answers, most probable first."""

import json

import numpy as np
import pytest

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.errors import ModelError, RequestError
from nanocv_cli.tasks.classification.postprocessor import (
    ClassificationPostprocessor,
    ClassificationResult,
    Prediction,
)
from tests.engine.graphs import colour_card

CARD = colour_card()
POSTPROCESSOR = ClassificationPostprocessor()


def decode(outputs: dict[str, np.ndarray], card: ModelCard, top: int = 5) -> list[ClassificationResult]:
    return POSTPROCESSOR.postprocess(outputs, card, top, [(9, 9)] * 2)


def answers(*rows: list[float], top: int = 5) -> list[list[str]]:
    outputs = {"probabilities": np.array(rows, np.float32)}
    return [[p.label for p in result.predictions] for result in decode(outputs, CARD, top)]


def test_answers_are_sorted_by_score_and_bounded() -> None:
    assert answers([0.1, 0.2, 0.7], [0.5, 0.2, 0.3]) == [["blue", "green", "red"], ["red", "blue", "green"]]
    assert answers([0.1, 0.2, 0.7], top=2) == [["blue", "green"]]
    assert answers([0.25, 0.5, 0.25]) == [["green", "red", "blue"]]


def test_equal_scores_keep_the_order_of_the_classes() -> None:
    names = tuple(f"class {number}" for number in range(50))
    scores = np.array([[0.03, 0.01] * 25], np.float32)
    (result,) = decode({"probabilities": scores}, colour_card(classes=names), top=50)
    assert [p.label for p in result.predictions] == [*names[::2], *names[1::2]]


def test_scores_are_those_of_the_graph() -> None:
    (result,) = decode({"probabilities": np.array([[0.125, 0.5, 0.375]], np.float32)}, CARD)
    assert result.predictions == (Prediction("green", 0.5), Prediction("blue", 0.375), Prediction("red", 0.125))


def test_text_and_json() -> None:
    result = ClassificationResult((Prediction("daisy", 0.9834), Prediction("rose", 0.011)))
    assert result.to_text() == "daisy 98.3 %  rose 1.1 %"
    assert json.loads(json.dumps(result.to_json())) == {
        "predictions": [{"label": "daisy", "score": 0.9834}, {"label": "rose", "score": 0.011}]
    }


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"boxes": np.zeros((1, 3))},
        {"probabilities": np.zeros((1, 4))},
        {"probabilities": np.zeros((1, 3, 1))},
    ],
)
def test_outputs_of_another_shape_are_refused(outputs: dict[str, np.ndarray]) -> None:
    with pytest.raises(ModelError, match="graph of colours returns"):
        decode(outputs, CARD)


def test_nan_is_refused() -> None:
    with pytest.raises(ModelError, match="NaN"):
        decode({"probabilities": np.array([[np.nan, 0, 1]])}, CARD)


def test_drawing_keeps_the_size_and_the_input() -> None:
    image = np.full((120, 160, 3), 200, np.uint8)
    (result,) = decode({"probabilities": np.array([[0.7, 0.2, 0.1]])}, CARD)
    drawn = POSTPROCESSOR.draw(image, result, CARD)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert (image == 200).all()
    assert not np.array_equal(drawn, image)


def test_answers_about_a_whole_image_are_not_had_from_tiles() -> None:
    with pytest.raises(RequestError, match=r"--tile is for .* colours is a classification model"):
        POSTPROCESSOR.tile_merger(CARD)
