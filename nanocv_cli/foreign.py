"""Documents that others wrote (JSON, YAML, XML, text) as values of a known shape, or one line that says what is wrong.

Files are regular and bounded, nesting is bounded, nothing refers to anything outside, and no object but plain ones is
made. What a document has beyond the shape that is asked for is passed over.
"""

import reprlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from nanocv_cli.errors import DataError
from nanocv_cli.untrusted import first_line, printable, read_regular

# LVIS, the largest set of annotations in common use, has documents of 1.1 GB.
LARGEST_JSON = 2 << 30
LARGEST_TEXT = 64 << 20
LARGEST_XML = 16 << 20
# Libraries take seconds per megabyte.
LARGEST_YAML = 4 << 20
DEEPEST_XML = 64
# Encodings that an XML file may state; any other is read as UTF-8, of which ASCII is a part.
STATED_ENCODINGS = {"iso-8859-1": "latin-1", "latin-1": "latin-1", "latin1": "latin-1", "windows-1252": "cp1252"}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Shape = TypeVar("Shape")
DEEPEST_YAML = 64
# Aliases counted with all that they stand for, since whoever walks the value meets all of it.
MOST_YAML_VALUES = 200_000


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """A text file in UTF-8, with or without a byte order mark.

    Raises:
        DataError: it is no regular file, larger than `largest` bytes, or not UTF-8; the message names file and line.
    """
    return _decoded(path, _content(path, largest), "utf-8-sig")


def read_json(path: Path, shape: TypeAdapter[Shape], hint: str) -> Shape:
    """A JSON document of a shape.

    Args:
        path: the file.
        shape: strict; see pydantic.
        hint: for a document that has another.

    Raises:
        DataError: it cannot be read or has another shape; the message names file and place: `annotations[12].bbox`.
    """
    try:
        return shape.validate_json(_content(path, LARGEST_JSON).removeprefix(BYTE_ORDER_MARK))
    except ValidationError as error:
        raise DataError(f"{path}: {_problem(error)}", hint) from None  # the error holds the document


def read_yaml(path: Path, shape: TypeAdapter[Shape], hint: str) -> Shape:
    """A YAML document of a shape; every plain value is text, whatever it looks like.

    Args:
        path: the file.
        shape: what it must be.
        hint: what to do where it is not.

    Raises:
        DataError: it cannot be read, is no plain YAML, or has another shape.
    """
    text = read_text(path, LARGEST_YAML)
    try:
        return shape.validate_python(plain_yaml(text))
    except YamlProblem as error:
        raise DataError(f"{path}:{error.line}: {first_line(error)}", hint) from error
    except ValidationError as error:
        raise DataError(f"{path}: {_problem(error)}", hint) from None


def read_xml(path: Path, read: Callable[[ElementTree.Element], Shape], what: str) -> Shape:
    """What a function makes of an XML document without a document type.

    Args:
        path: the file.
        read: from the root; raises ValueError where it is not what it should be.
        what: it should be, for the message.

    Raises:
        DataError: it cannot be read, is not well-formed, is nested too deeply or defines a document type; `read` fails.
    """
    content = _content(path, LARGEST_XML)
    text = _decoded(path, content, _encoding(content))
    parser = ElementTree.XMLParser(target=_ShallowBuilder())
    try:
        # No text has zero bytes, and expat takes those of UTF-16 for it whatever it is told.
        if "\0" in text:
            raise ValueError("it holds zero bytes")
        # A document type may define entities that grow without end. Looked for in the text that is parsed, not in
        # bytes, where another encoding hides it.
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ValueError("it defines a document type")
        parser.feed(text)
        return read(parser.close())
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path} is no {what}: {first_line(error)}", "write it again") from error


class _ShallowBuilder(ElementTree.TreeBuilder):
    """Builds the tree of a document that is nested no deeper than annotations are."""

    depth = 0

    def start(self, tag: Any, attrs: Any, /) -> ElementTree.Element:
        self.depth += 1
        if self.depth > DEEPEST_XML:
            raise ValueError("nested too deeply")
        return super().start(tag, attrs)

    def end(self, tag: Any, /) -> ElementTree.Element:
        self.depth -= 1
        return super().end(tag)


def _content(path: Path, largest: int) -> bytes:
    try:
        return read_regular(path, largest)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}", "nanocv data check") from error


def _decoded(path: Path, content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: not {encoding.removesuffix('-sig').upper()} text", "save it as UTF-8"
        ) from error


def _encoding(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    opening = content[:200].decode("ascii", "replace").partition("?>")[0]
    stated = opening.partition("encoding=")[2][1:].lower()
    return next((codec for name, codec in STATED_ENCODINGS.items() if stated.startswith(name)), "utf-8-sig")


def _problem(error: ValidationError) -> str:
    """The first of pydantic's findings as one line: where, what stands there, what was expected."""
    found = error.errors(include_url=False, include_context=False)[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{printable(part, 60)}" for part in found["loc"])
    place, said = place.removeprefix("."), found["msg"].removeprefix("Input ").removeprefix("Value error, ")
    if found["type"] == "json_invalid":
        return f"no JSON document: {said.removeprefix('Invalid JSON: ')}"
    if found["type"] == "missing":
        return f"{place} is missing"
    return f"{place or 'the document'} is {printable(reprlib.repr(found['input']), 80)}, but {said}"


class YamlProblem(Exception):
    """Why a text is no YAML that is read here, and in which line."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem)
        self.line = mark.line + 1 if mark else 1


def plain_yaml(text: str) -> Any:
    """The one document of a text; scalars stay text, tags mean nothing, an alias is what it refers to.

    Raises:
        YamlProblem: it is not well-formed, nested too deeply, has too many values, or a key that stands twice.
    """
    # libyaml's parser where it is, for it is ten times faster; both give the same events.
    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        return _built_from(yaml.parse(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        raise YamlProblem(error.problem or "not valid YAML", error.problem_mark or error.context_mark) from error
    except yaml.YAMLError as error:
        raise YamlProblem("characters that YAML does not allow", None) from error


@dataclass
class _OpenCollection:
    """A list or mapping that is being filled.

    Attributes:
        value: what it holds so far.
        anchor: its name for aliases.
        before: how many values there were when it began.
        key: of a mapping, the key whose value comes next.
    """

    value: dict[str, Any] | list[Any]
    anchor: str | None
    before: int
    key: list[str] = field(default_factory=list)

    def add(self, value: Any, mark: Any) -> None:
        """Takes the next item, key or value."""
        if isinstance(self.value, list):
            self.value.append(value)
        elif self.key:
            self.value[self.key.pop()] = value
        elif not isinstance(value, str):
            raise YamlProblem("expected a plain key", mark)
        elif value in self.value:
            raise YamlProblem(f"the key {value[:60]!r} stands twice", mark)
        else:
            self.key.append(value)


def _built_from(events: Iterable[Any]) -> Any:
    opened: list[_OpenCollection] = []
    anchors: dict[str, tuple[Any, int]] = {}
    value: Any
    count, documents, root = 0, 0, None
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise YamlProblem("expected one document", event.start_mark)
        if isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            if len(opened) == DEEPEST_YAML:
                raise YamlProblem("nested too deeply", event.start_mark)
            empty: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
            opened.append(_OpenCollection(empty, event.anchor, count))
            count += 1
            continue
        if isinstance(event, yaml.ScalarEvent):
            value, anchor, weight = event.value, event.anchor, 1
            count += 1
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise YamlProblem(f"*{event.anchor} refers to nothing before it", event.start_mark)
            (value, weight), anchor = anchors[event.anchor], None
            count += weight
        elif isinstance(event, yaml.CollectionEndEvent):
            closed = opened.pop()
            value, anchor, weight = closed.value, closed.anchor, count - closed.before
        else:
            continue
        if count > MOST_YAML_VALUES:
            raise YamlProblem(f"more than {MOST_YAML_VALUES:,} values", event.start_mark)
        if anchor:
            anchors[anchor] = value, weight
        if opened:
            opened[-1].add(value, event.start_mark)
        else:
            root = value
    return root
