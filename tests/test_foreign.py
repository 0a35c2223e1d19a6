"""Documents of others: bounded, of a known shape, or refused in one line that names file and place."""

import os
import time
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from nanocv_cli.data.dataset import class_names
from nanocv_cli.errors import DataError
from nanocv_cli.foreign import YamlProblem, plain_yaml, read_json, read_text, read_xml, read_yaml

ANY = TypeAdapter(Any)
SHAPE = TypeAdapter(dict[str, list[tuple[int, float]]])


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def root_of(tree: Element) -> Element:
    return tree


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize(
    "read",
    [
        read_text,
        lambda p: read_json(p, ANY, "h"),
        lambda p: read_yaml(p, ANY, "h"),
        lambda p: read_xml(p, root_of, "x"),
    ],
)
def test_only_regular_files_of_bounded_size_are_read(read: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    for name, reason in (
        ("pipe", "not a regular file"),
        ("sparse", "larger than"),
        ("none", "No such file"),
        (".", "Is"),
    ):
        with pytest.raises(DataError, match=reason) as refused:
            read(tmp_path / name)
        assert str(tmp_path / name) in refused.value.message and refused.value.hint


def test_text_is_utf8_and_the_line_that_is_not_is_named(tmp_path: Path) -> None:
    assert read_text(written(tmp_path / "a", b"\xef\xbb\xbfe\xc3\xa9\n")) == "eé\n"
    with pytest.raises(DataError, match=r"b:3: not UTF-8 text"):
        read_text(written(tmp_path / "b", b"one\ntwo\nthr\xe9e\n"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": [[1, "x"]]}', r"a\[0\]\[1\] is 'x', but should be a valid number"),
        (b'{"a": [[1]]}', r"a\[0\]\[1\] is missing"),
        (b'{"a\\n": 3}', r"a\\n is 3, but should be"),
        (b"[1]", r"the document is \[1\], but"),
        (b"[" * 100_000, "no JSON document: recursion limit"),
        (b'{"a": [[1, 1e999]]', "no JSON document: EOF"),
        (b"", "no JSON document"),
        (b"\xff\xfe[\0", "no JSON document"),
    ],
)
def test_json_of_another_shape_is_refused_with_the_place(content: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=reason) as refused:
        read_json(written(tmp_path / "x.json", content), SHAPE, "hint")
    assert refused.value.message.startswith(f"{tmp_path / 'x.json'}: ")
    assert refused.value.message.isprintable() and len(refused.value.message) < 400


plain = st.recursive(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(plain)
def test_plain_yaml_is_what_yaml_wrote(value: Any) -> None:
    import yaml

    assert plain_yaml(yaml.safe_dump(value, default_style='"')) == value


def test_aliases_are_what_they_refer_to() -> None:
    assert plain_yaml("a: &x [1, 2]\nb: *x\nc: {<<: *x, no: yes}") == {
        "a": ["1", "2"],
        "b": ["1", "2"],
        "c": {"<<": ["1", "2"], "no": "yes"},
    }


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30))


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        ("names: " + "[" * 20_000, "nested too deeply", 1),
        ("names:\n" + "- " * 20_000 + "x", "nested too deeply", 2),
        ("\n".join(" " * depth + "a:" for depth in range(500)), "nested too deeply", 65),
        (BOMB, "more than 200,000 values", 6),
        ("- x\n" * 300_000, "more than 200,000 values", 200_000),
        ("a: &a [*a]", "refers to nothing", 1),
        ("a: *none", "refers to nothing", 1),
        ("a: 1\nb: 2\na: 3", "stands twice", 3),
        ("[a]: 1", "expected a plain key", 1),
        ("a: 1\n---\nb: 1", "expected one document", 2),
        ("a: 'b", "end of stream", 1),
        ("a: \x07", "characters", 1),
    ],
)
def test_yaml_that_would_grow_or_says_two_things_is_refused(text: str, problem: str, line: int) -> None:
    begun = time.monotonic()
    with pytest.raises(YamlProblem, match=problem) as refused:
        plain_yaml(text)
    assert refused.value.line == line
    assert time.monotonic() - begun < 30


def test_tags_make_nothing() -> None:
    assert plain_yaml("!!python/object/apply:os.system [exit 1]") == ["exit 1"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_xml_in_the_encodings_of_unicode(encoding: str, tmp_path: Path) -> None:
    path = written(tmp_path / "x.xml", "<a>é</a>".encode(encoding))
    assert read_xml(path, root_of, "annotation").text == "é"


def test_xml_in_a_stated_encoding(tmp_path: Path) -> None:
    path = written(tmp_path / "x.xml", '<?xml version="1.0" encoding="ISO-8859-1"?><a>é</a>'.encode("latin-1"))
    assert read_xml(path, root_of, "annotation").text == "é"


TYPED = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbb">]><a>&b;</a>'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (TYPED.encode(), "defines a document type"),
        (TYPED.encode("utf-16"), "defines a document type"),
        (TYPED.encode("utf-16-be"), "holds zero bytes"),
        (TYPED.encode("utf-16-le"), "holds zero bytes"),
        (TYPED.encode("utf-32"), "not UTF-8 text|not UTF-16 text|holds zero bytes"),
        (TYPED.encode("utf-7"), "defines a document type|is no annotation"),
        (b'<?xml version="1.0" encoding="utf-7"?>+ADw-a/+AD4-', "is no annotation"),
        (b"<a>" * 100_000, "nested too deeply"),
        (b"<a>" * 70 + b"</a>" * 70, "nested too deeply"),
        (b"<a>&b;</a>", "undefined entity"),
        (b"<a>\xff</a>", "x.xml:1: not UTF-8 text"),
        (b"<a>", "no element found"),
    ],
)
def test_xml_that_would_grow_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=reason) as refused:
        read_xml(written(tmp_path / "x.xml", content), root_of, "annotation")
    assert str(tmp_path / "x.xml") in refused.value.message and "\n" not in refused.value.message


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x1b]0;x\x07", "\ud800", "a\u2028b", "x" * 201, "\x00"])
def test_what_can_be_no_class_name(name: str) -> None:
    with pytest.raises(DataError, match="file: the class name") as refused:
        class_names(["cat", name], "file")
    assert refused.value.message.isprintable() and len(refused.value.message) < 200


def test_class_names_stand_once_and_are_not_without_number() -> None:
    assert class_names(["street light (red)", "Löwenzahn", "花\u3000x"], "file")
    with pytest.raises(DataError, match="class cat stands twice"):
        class_names(["cat", "dog", "cat"], "file")
    with pytest.raises(DataError, match="names 100,000 classes"):
        class_names(map(str, range(100_000)), "file")
