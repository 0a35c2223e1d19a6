"""Bars and colours: on terminals alone, and on those only as their user wants them."""

import io
import os
import pty
import re
import sys

import pytest

from nanocv_cli.display import Display
from tests.conftest import Command

COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|38|9[0-7])[0-9;]*m")
VARIABLES = ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


def told(patch: pytest.MonkeyPatch, on_terminal: bool = True, **environment: str) -> str:
    """What work with a bar and a line writes on stderr."""
    for name in VARIABLES:
        patch.delenv(name, raising=False)
    patch.setenv("TERM", "xterm-256color")
    for name, value in environment.items():
        patch.setenv(name, value)
    ours, theirs = pty.openpty()
    stream = os.fdopen(theirs, "w") if on_terminal else io.StringIO()
    patch.setattr(sys, "stderr", stream)
    display = Display()
    with display.bar("drawing") as progress:
        progress(1, 2)
        display.say("half of it")
    if isinstance(stream, io.StringIO):
        os.close(theirs)
        found = stream.getvalue()
    else:
        stream.flush()
        found = os.read(ours, 65_536).decode()
        stream.close()
    os.close(ours)
    return found


def test_a_terminal_gets_a_bar_in_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(monkeypatch)
    assert "drawing" in found and "half of it" in found
    assert COLOUR.search(found)


def test_no_color_leaves_the_bar_and_takes_its_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(monkeypatch, NO_COLOR="1")
    assert "drawing" in found and "half of it" in found
    assert not COLOUR.search(found)


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, TERM="dumb").replace("\r", "") == "half of it\n"


def test_what_is_no_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, on_terminal=False) == "half of it\n"


def test_force_color_draws_where_no_terminal_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert COLOUR.search(told(monkeypatch, on_terminal=False, FORCE_COLOR="1"))


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["config", "show"], ["train", "--no-such"]])
def test_help_results_and_failures_have_no_colours(
    nanocv: Command, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    outcome = nanocv(*arguments)
    assert "\x1b" not in outcome.out + outcome.err
