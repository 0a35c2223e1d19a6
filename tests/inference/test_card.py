"""The model card survives the trip through a file's metadata; anything else is refused."""

import json

import pytest

from nanocv_cli.errors import ModelError
from nanocv_cli.inference.card import METADATA_KEY, ModelCard
from tests.inference.graphs import colour_card


def test_round_trip_keeps_everything_and_passes_over_newer_keys() -> None:
    card = colour_card(metrics={"top1": 0.5}, precision="int8", config={"model": {"name": "x"}})
    metadata = card.to_metadata()
    assert ModelCard.from_metadata(metadata, "x.onnx") == card
    newer = {METADATA_KEY: json.dumps({**json.loads(metadata[METADATA_KEY]), "invented_later": 1})}
    assert ModelCard.from_metadata(newer, "x.onnx") == card


def test_no_card_at_all() -> None:
    with pytest.raises(ModelError, match=r"x\.onnx carries no nanocv model card"):
        ModelCard.from_metadata({}, "x.onnx")


@pytest.mark.parametrize(
    "change",
    [
        {"name": 3},
        {"task": None},
        {"classes": [1, 2]},
        {"classes": None},
        {"input_size": "8"},
        {"input_size": True},
        {"input_size": 0},
        {"input_size": 10**9},
        {"resize": "pad"},
        {"config": []},
        {"metrics": "good"},
        {"version": 1},
    ],
)
def test_a_field_of_the_wrong_kind_is_damage(change: dict[str, object]) -> None:
    document = json.loads(colour_card().to_metadata()[METADATA_KEY])
    with pytest.raises(ModelError, match="card is damaged"):
        ModelCard.from_metadata({METADATA_KEY: json.dumps({**document, **change})}, "x.onnx")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", "[" * 100_000])
def test_text_that_is_no_card_is_damage(text: str) -> None:
    with pytest.raises(ModelError, match="card is damaged"):
        ModelCard.from_metadata({METADATA_KEY: text}, "x.onnx")
