"""The commands that do it again: a training that options, files and folders asked for, as one line for a shell."""

import re
import shlex
from html import unescape
from pathlib import Path

import pytest

from nanocv_cli.config.loader import resolve
from nanocv_cli.report.files_section import again_section, training_command
from nanocv_cli.report.section import Found
from nanocv_cli.report.subject import Subject
from nanocv_cli.rooms import Score
from tests.conftest import Write
from tests.engine.graphs import colour_card

NOT_KEPT: Found[object] = Found(None, "not kept")


def asked(project: Path, **request: object) -> Subject:
    """A run that was asked for in this way, in a project."""
    resolved = resolve(**request)  # type: ignore[arg-type]
    config = resolved.config.model_dump(mode="json", include={"data", "model", "train"})
    card = colour_card(data=resolved.config.data.name, config=config)
    run = project / "runs" / "one"
    return Subject("one", run / "model.onnx", card, Score("top1"), run, Found(resolved.origins), NOT_KEPT, NOT_KEPT)  # type: ignore[arg-type]


def again(command: list[str]) -> dict[str, object]:
    """What the words of a training ask for."""
    assert command[:2] == ["nanocv", "train"]
    pairs = list(zip(command[2::2], command[3::2], strict=True))
    given = {name.removeprefix("--"): value for name, value in pairs if name != "--set"}
    return {**given, "overrides": [value for name, value in pairs if name == "--set"]}


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"model": "nanoseg"},
        {"model": "lenet", "overrides": ["train.epochs=3", "data.classes=[a b, 'c$d']", "model.mean=[0.1, 0.2, 0.3]"]},
        {"model": "lenet", "train": "photos"},
        {"model": "resnet18"},
        {"data": "pictures of mine"},
        {"data": "mine.yaml"},
    ],
)
def test_the_command_asks_for_the_very_same(request_: dict[str, object], project: Path, write: Write) -> None:
    (project / "pictures of mine").mkdir()
    write("mine.yaml", "name: mine\npath: pictures of mine\n")
    before = resolve(**request_)  # type: ignore[arg-type]
    words = shlex.split(shlex.join(training_command(asked(project, **request_))))
    assert resolve(**again(words)).config == before.config  # type: ignore[arg-type]


def test_a_set_is_named_as_it_was_asked_for_or_by_the_config_that_leads_to_it(project: Path, write: Write) -> None:
    (project / "photos").mkdir()
    for request_, data in (({}, "flowers"), ({"data": "photos"}, str(project / "photos"))):
        body = again_section(asked(project, **request_)).body
        assert body is not None and f" --data {data} " in re.sub("<.*?>", "", unescape(body))
    untraced = asked(project)
    untraced = Subject(**{**vars(untraced), "origins": NOT_KEPT})
    body = again_section(untraced).body
    assert body is not None and "--data flowers " in body and "nanocv train" not in body
