"""What is printed for people is one harmless line each; what is printed for programs is exact."""

import io
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nanocv_cli import errors
from nanocv_cli.display import Display
from nanocv_cli.errors import ModelError, NanocvError
from nanocv_cli.output import emit, say, say_failure, tell

ANY_TEXT = st.text(st.characters(), max_size=60) | st.sampled_from(
    ["\x1b]0;title\x07", "a\r\nerror: b", "\u202egnp.exe", "\ud800", "\x9b2J", "\u2028", "[/red]", "[bold"]
)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(ANY_TEXT, max_size=4), ANY_TEXT)
def test_a_text_is_a_line_that_acts_on_no_terminal(lines: list[str], advice: str) -> None:
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        patch.setattr("sys.stderr", err)
        tell(*lines)
        for line in lines:
            say(line)
        say_failure(ModelError("x".join(lines) + "!", advice))
    assert out.getvalue().count("\n") == len(lines)
    assert err.getvalue().count("\n") == len(lines) + 2
    for stream in (out, err):
        assert all(map(str.isprintable, stream.getvalue().split("\n")))
        stream.getvalue().encode()


@given(DOCUMENTS)
def test_a_document_is_exact_and_in_ascii(document: Any) -> None:
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        emit(document)
    assert out.getvalue().isascii() and out.getvalue().count("\n") == 1
    found = json.loads(out.getvalue())
    if "inf" not in str(document):
        assert found == document


def test_what_is_no_number_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"a": math.nan, "b": [math.inf, {"c": -math.inf, "d": 1.5}], "e": (math.nan,)})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, {"c": None, "d": 1.5}], "e": [None]}


def kinds(kind: type[NanocvError] = NanocvError) -> Iterator[type[NanocvError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from kinds(below)


@pytest.mark.parametrize("kind", [kind for kind in kinds() if kind.__module__ == errors.__name__])
def test_every_failure_has_something_to_do(kind: type[NanocvError]) -> None:
    assert len(kind("it failed").hint) > 10
    assert kind("it failed", "").hint == kind.advice
    assert kind("it failed", "mend it").hint == "mend it"


@given(ANY_TEXT, ANY_TEXT)
def test_a_bar_shows_any_name(title: str, note: str) -> None:
    terminal = io.StringIO()
    display = Display(Console(file=terminal, force_terminal=True, width=200, highlight=False, soft_wrap=True))
    with display.bar(title) as progress:
        progress(1, 2, note)
        display.say(note)
    for acting in ("\x1b]0;", "\x07", "\x9b", "\u202e", "\u2028"):
        assert acting not in terminal.getvalue()
