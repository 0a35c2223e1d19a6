"""The model card survives the trip through a file's metadata; anything else is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanocv_cli.engine.card import METADATA_KEY, ModelCard
from nanocv_cli.errors import ModelError
from nanocv_cli.untrusted import is_plain
from tests.engine.graphs import colour_card

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


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
        {"cost": 3},
        {"cost": {"drop": "much"}},
        {"version": 1},
        {"classes": "abc"},
        {"classes": []},
        {"classes": ["a", "b", "a"]},
        {"classes": ["a", ""]},
        {"classes": ["x" * 201]},
        {"classes": [f"class {number}" for number in range(40_000)]},
        {"name": ""},
        {"name": "x" * 1_000_000},
        {"input_size": 4096},
        {"metrics": {"top1": float("nan")}},
        {"metrics": {"per_class": [{"a": float("-inf")}]}},
        {"metrics": {"top1": 10**400}},
        {"config": {"model": {"sampling": {"steps": 1e300}}}},
        *({key: f"a{letter}b"} for key in ("name", "data", "split") for letter in "\n\x1b\x07\x9b\u2028\ud800"),
        *({"classes": ["a", f"b{letter}"]} for letter in "\n\0\x1b\ud800\udfff\x85\u2029"),
    ],
)
def test_a_field_of_the_wrong_kind_is_damage(change: dict[str, object]) -> None:
    document = json.loads(colour_card().to_metadata()[METADATA_KEY])
    with pytest.raises(ModelError, match="card is damaged"):
        ModelCard.from_metadata({METADATA_KEY: json.dumps({**document, **change})}, "x.onnx")


DEEP = json.dumps({"config": 0}).replace("0", "[" * 500 + "]" * 500)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", "[" * 100_000, DEEP, "{" + " " * 9_000_000 + "}"])
def test_text_that_is_no_card_is_damage(text: str) -> None:
    with pytest.raises(ModelError, match="card is damaged"):
        ModelCard.from_metadata({METADATA_KEY: text}, "x.onnx")


@given(st.sampled_from(sorted(vars(colour_card()))), VALUES)
def test_any_value_of_any_field_is_read_or_refused(field: str, value: object) -> None:
    document = {**json.loads(colour_card().to_metadata()[METADATA_KEY]), field: value}
    try:
        card = ModelCard.from_metadata({METADATA_KEY: json.dumps(document)}, "x.onnx")
    except ModelError as error:
        assert "x.onnx: its model card is damaged: " in error.message
        return
    assert all(map(is_plain, (card.name, card.task, *card.classes)))
    assert len(set(card.classes)) == len(card.classes) > 0
    assert 1 <= card.input_size <= 2048
    json.dumps([card.config, card.metrics], allow_nan=False)
    assert ModelCard.from_metadata(card.to_metadata(), "x.onnx") == card


def test_what_is_no_number_is_written_as_null() -> None:
    card = colour_card(metrics={"loss": float("nan"), "top1": 0.5})
    assert ModelCard.from_metadata(card.to_metadata(), "x").metrics == {"loss": None, "top1": 0.5}
