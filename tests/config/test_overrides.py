from typing import Any

import pytest

from nanocv_cli.config.loader import resolve
from nanocv_cli.config.overrides import KEYS, TrainOptions, parse_overrides
from nanocv_cli.errors import ConfigError

pytestmark = pytest.mark.usefixtures("project")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("train.epochs=5", 5),
        ("train.learning_rate=1e-3", 0.001),
        ("train.learning_rate=1", 1.0),
        ("train.augment.flip=false", False),
        ("train.optimizer=sgd", "sgd"),
        ("train.name=5", "5"),
        ("data.name=true", "true"),
        ("data.name=a=b", "a=b"),
        ("data.path=[odd]", "[odd]"),
        ("data.archive=null", None),
        ("data.archive=2e-3", "2e-3"),
        ("data.classes=[a, b]", ("a", "b")),
        ("model.mean=[0, 0.5, 1]", (0.0, 0.5, 1.0)),
        ("gpu.peak.fp16=1e15", 1e15),
    ],
)
def test_an_override_has_the_type_of_its_field(text: str, value: Any) -> None:
    key = text.partition("=")[0]
    resolved = resolve(overrides=[text])
    node: Any = resolved.config
    for part in key.split("."):
        node = getattr(node, part)
    assert node == value
    assert type(node) is type(value)
    assert resolved.origins[key] == "--set"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("train.epochs=0", "train.epochs is 0; expected a whole number >= 1 and <= 100000", ""),
        ("train.epochs='5'", "train.epochs is '5'; expected a whole number >= 1 and <= 100000", ""),
        ("train.epochs=", "train.epochs is ''; expected a whole number >= 1 and <= 100000", ""),
        ("train.epoch=5", "train.epoch is not a known key", "did you mean epochs? known keys: "),
        ("train.augment.flipp=true", "train.augment.flipp is not a known key", "did you mean flip? known keys: "),
        ("train.epochs.x=1", "train.epochs is {'x': 1}; expected a whole number >= 1 and <= 100000", ""),
        ("train.augment={flip: 3}", "train.augment.flip is 3; expected true or false", ""),
        ("model.mean=[1, 2]", "model.mean is [1, 2]; expected a list of 3 numbers", ""),
        ("train.precision=fp61", "train.precision is 'fp61'; expected one of auto, fp32, bf16, fp16",
         "did you mean fp16?"),
        ("trian.epochs=5", "expected GROUP.KEY=VALUE with one of the groups data, model, train, gpu",
         "did you mean train.epochs?"),
        ("epochs=5", "expected GROUP.KEY=VALUE with one of the groups data, model, train, gpu",
         "did you mean train.epochs=...?"),
        ("train.epochs", "expected GROUP.KEY=VALUE with one of the groups data, model, train, gpu", "for example"),
        ("train=quick", "expected GROUP.KEY=VALUE with one of the groups data, model, train, gpu", "for example"),
        ("", "expected GROUP.KEY=VALUE with one of the groups data, model, train, gpu", "for example"),
        ("model.recipe=quikc", "no train config 'quikc'", "did you mean quick? known: "),
    ],
)  # fmt: skip
def test_a_wrong_override_is_named_with_what_was_expected(text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(overrides=[text])
    assert caught.value.message == f"--set {text}: {message}"
    assert caught.value.hint.startswith(hint)


def test_a_long_override_is_cut_in_messages() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_overrides(["x" * 500])
    assert caught.value.message.startswith(f"--set {'x' * 57}...: expected ")


def test_the_last_override_of_a_key_wins() -> None:
    assert resolve(overrides=["train.epochs=5", "train.epochs=6"]).config.train.epochs == 6


def test_a_mapping_replaces_the_file_s_and_its_other_keys_are_defaults() -> None:
    resolved = resolve(overrides=["train.augment={erase: 0.5}"])
    assert resolved.config.train.augment.erase == 0.5
    assert resolved.config.train.augment.brightness == 0.0
    assert resolved.origins["train.augment.erase"] == "--set"
    assert resolved.origins["train.augment.brightness"] == "default"


def test_a_key_below_null_makes_the_mapping() -> None:
    config = resolve(overrides=["data.flowers=null", "data.flowers.seed=3"]).config.data
    assert config.flowers is not None
    assert (config.flowers.seed, config.flowers.size) == (3, 256)


def test_an_overridden_recipe_is_the_one_trained_with() -> None:
    assert resolve(overrides=["model.recipe=photos"]).config.train.name == "photos"
    assert resolve(overrides=["model.recipe=null"]).config.train.name == "photos"
    assert resolve(train="quick", overrides=["model.recipe=photos"]).config.train.name == "quick"


def test_an_option_is_the_override_of_its_key() -> None:
    options = {"epochs": 7, "batch_size": 6, "lr": 0.5, "seed": 0, "name": "null"}
    resolved = resolve(model="lenet", options=TrainOptions(**options))  # type: ignore[arg-type]
    for option, value in options.items():
        group, key = KEYS[option]
        assert getattr(getattr(resolved.config, group), key) == value
        assert resolved.origins[f"{group}.{key}"] == f"--{option.replace('_', '-')}"
    sets = [f"{'.'.join(KEYS[option])}={value}" for option, value in options.items() if option != "name"]
    assert resolve(model="lenet", overrides=sets).config.train == resolved.config.train


@pytest.mark.parametrize("text", ["train.epochs=7", "train.epochs=8", "train.epochs.x=1"])
def test_an_option_and_a_set_of_its_key_are_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(overrides=["train.seed=1", text], options=TrainOptions(epochs=7, batch_size=8))
    assert caught.value.message == f"--epochs and --set {text} both say what train.epochs is"
    assert caught.value.hint == "leave one of the two out"


def test_an_option_and_sets_of_other_keys_go_together() -> None:
    train = resolve(overrides=["train.ema_decay=0.5"], options=TrainOptions(epochs=7)).config.train
    assert (train.epochs, train.ema_decay) == (7, 0.5)


def test_a_wrong_option_is_named_as_it_was_written() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(options=TrainOptions(batch_size=0))
    assert caught.value.message.startswith("--batch-size: train.batch_size is 0; expected a whole number >= 1")
