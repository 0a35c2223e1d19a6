"""Names, texts and files of others."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanocv_cli.untrusted import (
    LONGEST_NAME,
    first_line,
    holds,
    is_plain,
    open_regular,
    printable,
    read_regular,
    safe_name,
    safe_names,
)

HOSTILE = ["../../x", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "-rf", "~root", "CON", "nul.txt", "a\0b", "x" * 5000,
           ".hidden", "tail.", "tail ", "\ud800", "a\nb", "\x1b]0;title\x07"]  # fmt: skip
ANY_TEXT = st.text(st.characters(), max_size=300) | st.sampled_from(HOSTILE)


@given(ANY_TEXT)
def test_a_safe_name_is_one_harmless_component(text: str) -> None:
    name = safe_name(text)
    assert name not in ("", ".", "..")
    assert Path("folder", name).parent == Path("folder")
    assert not set(name) & set('/\\\0:*?"<>|\n\r')
    assert name[0] not in "-~." and name[-1] not in " ."
    assert name.isprintable() and len(name.encode()) <= LONGEST_NAME
    assert safe_name(text) == name


@given(ANY_TEXT, ANY_TEXT)
def test_different_texts_have_different_safe_names(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)


@given(st.lists(ANY_TEXT | st.sampled_from(["Rose", "rose", "ROSE", "rose-2", "Strasse", "Straße"]), max_size=12))
def test_safe_names_differ_whatever_the_file_system(texts: list[str]) -> None:
    names = safe_names(texts)
    assert names.keys() == set(texts)
    assert len({name.casefold() for name in names.values()}) == len(names)
    assert all(Path("folder", name).parent == Path("folder") for name in names.values())
    assert all(len(name.encode()) <= LONGEST_NAME for name in names.values())


@given(ANY_TEXT)
def test_plain_texts_are_what_can_be_shown_in_one_line(text: str) -> None:
    if is_plain(text):
        assert 0 < len(text) <= 200 and len(text.splitlines()) == 1
        text.encode()
        assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text)


@pytest.mark.parametrize("text", ["daisy", "Löwenzahn", "street light (red)", "naïve_café-2", "花"])
def test_ordinary_names_stay_as_they_are(text: str) -> None:
    assert safe_name(text) == text


@given(ANY_TEXT)
def test_printable_is_one_short_line(text: str) -> None:
    shown = printable(text, 80)
    assert len(shown) <= 80
    assert shown.isprintable()
    shown.encode()
    if text.isprintable() and len(text) <= 80:
        assert shown == text


def test_a_long_text_keeps_both_ends() -> None:
    shown = printable("begin" + "x" * 1000 + "end", 40)
    assert shown.startswith("begin") and shown.endswith("end") and "…" in shown


def test_first_line_of_an_error() -> None:
    assert first_line(ValueError("\n one\x1b[31m\ntwo")) == " one\\x1b[31m"
    assert first_line(KeyError()) == "KeyError"


def test_regular_files_are_read_through_links(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_regular(tmp_path / "link", 4)


def test_nothing_else_is_read_or_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "pipe", tmp_path / "socket", tmp_path, Path("/dev/zero")):
            with pytest.raises(OSError):
                open_regular(path)


def test_a_sparse_file_is_refused_by_its_size(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="larger than"):
        read_regular(tmp_path / "sparse", 1 << 20)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_a_file_holds_what_was_written_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, there: bytes, asked: bytes
) -> None:
    path = tmp_path_factory.mktemp("holds") / "file"
    path.write_bytes(there)
    assert holds(path, there)
    assert holds(path, asked) == (there == asked)


def test_only_regular_files_hold_something_and_no_more_is_read_than_asked_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(200 << 30)
    assert not holds(tmp_path / "sparse", b"\0" * 10)
    for name in ("pipe", "nothing", "."):
        with pytest.raises(OSError, match=r"not a regular|No such|Is a directory"):
            holds(tmp_path / name, b"")
