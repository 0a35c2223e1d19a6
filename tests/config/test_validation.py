from typing import Any

import pytest
from pydantic import BaseModel

from nanocv_cli.config.expected_type import expected
from nanocv_cli.config.owners import recipe_class
from nanocv_cli.config.schema import GROUP_MODELS, ModelConfig, RunConfig
from nanocv_cli.config.validation import findings, validate
from nanocv_cli.config.yaml_lines import read_yaml
from nanocv_cli.errors import ConfigError
from tests.conftest import Write

GPU = (
    "name: a\ntitle: b\nmemory_bandwidth: 1\nl2_size: 1\nprocessors: 1\n"
    "sources: {peak: a, memory_bandwidth: b, l2_bandwidth: c}\n"
)


def error_of(write: Write, group: str, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        section = recipe_class("classification") if group == "train" else GROUP_MODELS[group]
        validate(section, read_yaml(write("c.yaml", text)), f"{group}.")
    return caught.value


@pytest.mark.parametrize(
    ("group", "text", "message"),
    [
        ("train", "name: a\nepochs: 0", "c.yaml:2: train.epochs is 0; expected a whole number >= 1 and <= 100000"),
        ("train", "epochs: '5'\nname: a", "c.yaml:1: train.epochs is '5'; expected a whole number >= 1 and <= 100000"),
        ("train", "name: a\nepochs: true",
         "c.yaml:2: train.epochs is true; expected a whole number >= 1 and <= 100000"),
        ("train", "name: a\nepochs: 5.0", "c.yaml:2: train.epochs is 5.0; expected a whole number >= 1 and <= 100000"),
        ("train", "name: a\nwarmup: true", "c.yaml:2: train.warmup is true; expected a number >= 0 and < 1"),
        ("train", "name: a\nseed: -1", "c.yaml:2: train.seed is -1; expected a whole number >= 0 and < 2147483648"),
        ("train", "name: a\n\nschedule: step", "c.yaml:3: train.schedule is 'step'; expected one of one-cycle, cosine"),
        ("train", "name: a\naugment:\n  flip: yes", "c.yaml:3: train.augment.flip is 'yes'; expected true or false"),
        ("train", "name: a\naugment:\n  erase: 2",
         "c.yaml:3: train.augment.erase is 2; expected a number >= 0 and <= 1"),
        ("train", "name: ''", "c.yaml:1: train.name is ''; expected text that is not empty"),
        ("train", "name: 5", "c.yaml:1: train.name is 5; expected text that is not empty"),
        ("train", "epochs: 5", "c.yaml:1: train.name is missing; expected text that is not empty"),
        ("gpu", GPU + "peak:\n  fp16: 1",
         "c.yaml:7: gpu.peak.fp32 is missing; expected a number > 0"),
        ("gpu", GPU + "peak: 3",
         "c.yaml:7: gpu.peak is 3; expected keys fp32, tf32, fp16, bf16, int8"),
        ("model", "name: a\narchitecture: b\nmean: [1, 2]",
         "c.yaml:3: model.mean is [1, 2]; expected a list of 3 numbers"),
        ("model", "name: a\narchitecture: b\nmean: [1, 2, 3, 4]",
         "c.yaml:3: model.mean is [1, 2, 3, 4]; expected a list of 3 numbers"),
        ("model", "name: a\narchitecture: b\nmean: 5", "c.yaml:3: model.mean is 5; expected a list of 3 numbers"),
        ("data", "name: a\npath: b\nclasses: [a, 1]",
         "c.yaml:3: data.classes is ['a', 1]; expected a list of texts or null"),
        ("data", "name: a\npath: b\narchive: 5", "c.yaml:3: data.archive is 5; expected text or null"),
        ("data", "name: a\npath:", "c.yaml:2: data.path is null; expected text"),
    ],
)  # fmt: skip
def test_a_wrong_value_says_where_what_and_what_was_expected(write: Write, group: str, text: str, message: str) -> None:
    assert error_of(write, group, text).message == message


def test_an_unknown_key_names_the_nearest_and_all_known_ones(write: Write) -> None:
    error = error_of(write, "train", "name: a\n\nbatchsize: 3")
    assert error.message == "c.yaml:3: train.batchsize is not a known key"
    assert error.hint.startswith("did you mean batch_size? known keys: name, epochs, batch_size, ")


def test_an_unknown_key_below_another_names_its_neighbours(write: Write) -> None:
    error = error_of(write, "train", "name: a\naugment:\n  flipp: true")
    assert error.message == "c.yaml:3: train.augment.flipp is not a known key"
    assert error.hint.startswith("did you mean flip? known keys: flip, rescale, ")


def test_a_key_like_no_other_gets_no_guess(write: Write) -> None:
    assert error_of(write, "train", "name: a\nzzz: 1").hint.startswith("known keys: name, ")


def test_a_misspelt_choice_names_the_nearest(write: Write) -> None:
    assert error_of(write, "train", "name: a\noptimizer: adam").hint == "did you mean adamw?"


def test_long_values_are_cut(write: Write) -> None:
    message = error_of(write, "train", f"name: a\nepochs: {'x' * 500}").message
    assert f"is '{'x' * 56}...; expected" in message


def test_whole_numbers_are_numbers_and_lists_are_tuples(write: Write) -> None:
    model = validate(ModelConfig, read_yaml(write("c.yaml", "name: a\narchitecture: b\nmean: [0, 1, 2.5]")), "model.")
    assert model.mean == (0.0, 1.0, 2.5)


def test_every_wrong_key_is_one_finding(write: Write) -> None:
    text = "name: a\nepochs: 0\nbatch: 3\naugment: {erase: 2, mix: -1}"
    found = findings(recipe_class("classification"), read_yaml(write("c.yaml", text)), "train.")
    assert isinstance(found, list)
    assert [error.message.split(" ")[1] for error in found] == [
        "train.epochs",
        "train.augment.erase",
        "train.augment.mix",
        "train.batch",
    ]


def test_a_list_with_several_wrong_items_is_one_finding(write: Write) -> None:
    text = "name: a\narchitecture: b\nmean: []"
    found = findings(ModelConfig, read_yaml(write("c.yaml", text)), "model.")
    assert isinstance(found, list)
    assert [error.message for error in found] == ["c.yaml:3: model.mean is []; expected a list of 3 numbers"]


def every_field(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        fields[f"{prefix}{name}"] = field
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            fields |= every_field(field.annotation, f"{prefix}{name}.")
    return fields


@pytest.mark.parametrize("key", every_field(RunConfig))
def test_every_field_of_the_schema_can_be_told_in_words(key: str) -> None:
    words = expected(RunConfig, key.split("."))
    assert words.startswith(("a ", "text", "true or false", "one of ", "keys ", "no keys"))
