from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanocv_cli.config.yaml_lines import LARGEST_FILE, dump_yaml, parse_value, read_yaml
from nanocv_cli.errors import ConfigError
from tests.conftest import Write

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc_", min_size=1), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("010", 10),
        ("2e-3", 0.002),
        ("1e+12", 1e12),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("3.", 3.0),
        ("15.7e+12", 15.7e12),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("''", ""),
        ("'5'", "5"),
        ("on", "on"),
        ("no", "no"),
        ("True", "True"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("1\u0663", "1\u0663"),
        ("0x10", "0x10"),
        ("2026-01-01", "2026-01-01"),
        (".inf", ".inf"),
        ("[a, 1, 2e1]", ["a", 1, 20.0]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
    ],
)
def test_scalars_are_those_of_yaml_1_2(write: Write, text: str, value: Any) -> None:
    read = read_yaml(write("a.yaml", f"key: {text}\n")).values["key"]
    assert read == value
    assert type(read) is type(value)
    assert parse_value(text) == value


def test_an_absent_value_is_null(write: Write) -> None:
    assert read_yaml(write("a.yaml", "a:\nb: 1\n")).values == {"a": None, "b": 1}


def test_every_key_and_item_has_its_line(write: Write) -> None:
    read = read_yaml(write("a.yaml", "# note\na: 1\n\nb:\n  c: 2\n  d:\n    - 3\n    - e: 4\n"))
    lines = {"a": 2, "b": 4, "b.c": 5, "b.d": 6, "b.d.0": 7, "b.d.1": 8, "b.d.1.e": 8}
    assert read.places == {key: f"a.yaml:{line}" for key, line in lines.items()}


def test_a_byte_order_mark_is_skipped(project: Path) -> None:
    (project / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(Path("a.yaml")).values == {"a": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\nb: [1\nc: 2\n", "a.yaml:3: expected ',' or ']', but got ':'"),
        ("a: 1\n\tb: 2\n", "a.yaml:2: found character '\\t' that cannot start any token"),
        ("a: 1\nb: 2\na: 3\n", "a.yaml:3: a stands twice, first in line 1"),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", "a.yaml:4: a.b stands twice, first in line 2"),
        ("a: 1\nb: &x 2\n", "a.yaml:2: anchors and aliases (&name, *name) are not allowed"),
        ("a: 1\nb: *x\n", "a.yaml:2: anchors and aliases (&name, *name) are not allowed"),
        (
            "a: 1\nb: !!python/name:os.system\n",
            "a.yaml:2: tags (tag:yaml.org,2002:python/name:os.system) are not allowed",
        ),
        ("a: !!set {b}\n", "a.yaml:1: tags (tag:yaml.org,2002:set) are not allowed"),
        ("a: 1\n? [b]\n: 2\n", "a.yaml:2: expected a plain key"),
        ("- 1\n", "a.yaml:1: expected lines of the form key: value"),
        ("\n\nwords\n", "a.yaml:3: expected lines of the form key: value"),
        ("", "a.yaml:1: expected lines of the form key: value"),
        ("a: 1\n---\nb: 2\n", "a.yaml:2: but found another document"),
        ("a: 1\nb: \x07\n", "a.yaml:2: unprintable character '\\x07'"),
        (f"a: 1\nb: {'9' * 5000}\n", "a.yaml:2: b has too many digits"),
        (f"a: {'[' * 5000}\n", "a.yaml:1: nested too deeply"),
        (f"a: {'9' * LARGEST_FILE}\n", "a.yaml:1: larger than 1,048,576 bytes"),
    ],
)
def test_refusals_name_file_and_line(write: Write, content: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_yaml(write("a.yaml", content))
    assert caught.value.message == message
    assert caught.value.hint


def test_text_that_is_not_utf8_is_refused(project: Path) -> None:
    (project / "a.yaml").write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(ConfigError, match=r"^a\.yaml:2: not UTF-8 text$"):
        read_yaml(Path("a.yaml"))


def test_missing_files_and_folders_are_refused(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"^b\.yaml: cannot be read: No such file or directory$"):
        read_yaml(Path("b.yaml"))
    (project / "c.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"^c\.yaml: cannot be read: Is a directory$"):
        read_yaml(Path("c.yaml"))


@pytest.mark.parametrize("text", ["[1", "{a: 1, a: 2}", "&x 5", "!!str 5", "\x07", "[" * 5000, "9" * 5000])
def test_an_override_that_is_no_yaml_stays_text(text: str) -> None:
    assert parse_value(text) == text


@given(st.dictionaries(st.text("abc_", min_size=1), PLAIN, min_size=1))
@settings(deadline=None)
def test_written_values_read_back_the_same(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    path.write_text(dump_yaml(values), newline="")
    read = read_yaml(path).values
    assert read == values
    assert repr(read) == repr(values)


@pytest.mark.parametrize(
    "text",
    ["2e-3", "1e5", "0o10", "010", "on", "null", "true", "~", "1:30", "", "a: b", "#", "\x85", "\u2028", "\ufeff"],
)
def test_text_that_looks_like_something_else_is_quoted(write: Write, text: str) -> None:
    assert read_yaml(write("a.yaml", dump_yaml({"a": text}))).values == {"a": text}
