"""Settings of a training from Python, and requests that cannot be."""

from pathlib import Path
from typing import Any

import pytest

import nanocv_cli
from nanocv_cli.errors import ConfigError, RequestError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model.input_size": 33}, "model.input_size is 33"),
        ({"train.schedule": "step"}, "train.schedule is 'step'; expected one of one-cycle, cosine"),
        ({"train.augment.flip": None}, "train.augment.flip is null; expected true or false"),
        ({"model.mean": [1, 2]}, "expected a list of 3 numbers"),
        ({"epochs": 3}, "did you mean"),
    ],
)
def test_settings_are_checked_as_those_of_the_command_line(
    project: Path, tiny_set: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        nanocv_cli.train(str(tiny_set), "lenet", settings=settings)
    assert message in f"{refused.value.message} {refused.value.hint}"


@pytest.mark.slow(6)
def test_a_text_is_taken_as_it_stands(project: Path, tiny_set: Path) -> None:
    settings = {"model.name": "mine", "model.input_size": 32, "train.epochs": 1, "train.schedule": "cosine"}
    run = nanocv_cli.train(str(tiny_set), "lenet", settings=settings, device="cpu", out="runs/mine")
    assert run.summary["model"] == "mine" and run.graph.is_file() and run.metric == "top1"
    assert nanocv_cli.load("mine").card.name == "mine"


def test_an_unknown_engine_or_split_is_refused(project: Path, tiny_set: Path) -> None:
    with pytest.raises(RequestError, match="unknown engine 'tensorrt'"):
        nanocv_cli.evaluate("lenet", str(tiny_set), engine="tensorrt")  # type: ignore[arg-type]
