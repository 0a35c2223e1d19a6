"""YAML read safely and strictly, keeping the line of every key; and written so that it reads back the same.

Stricter than YAML: one mapping per file, plain keys that stand once, no anchors, aliases or tags.
Scalars are those of YAML 1.2 where PyYAML keeps to 1.1: `2e-3` is a number, only `true` and `false` are booleans,
whole numbers are decimal (`010` is ten).
"""

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nanocv_cli.config.located import Located
from nanocv_cli.config.project import shown
from nanocv_cli.errors import ConfigError
from nanocv_cli.untrusted import read_regular

LARGEST_FILE = 1 << 20


@dataclass(frozen=True)
class _Scalar:
    """One kind of unquoted value: what it looks like, the characters it can begin with, and how it is read."""

    pattern: str
    first: str
    read: Callable[[str], Any]


_SCALARS = {
    "tag:yaml.org,2002:bool": _Scalar(r"true|false", "tf", lambda text: text == "true"),
    "tag:yaml.org,2002:null": _Scalar(r"null|~|", "n~", lambda text: None),
    "tag:yaml.org,2002:int": _Scalar(r"[-+]?\d+", "-+0123456789", int),
    "tag:yaml.org,2002:float": _Scalar(r"[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?", "-+.0123456789", float),
}


class _Loader(yaml.SafeLoader):
    """Composes nodes with the scalars above; refuses anchors, aliases and tags. Constructs no objects."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise _refused(
                event.start_mark, "anchors and aliases (&name, *name) are not allowed", "write the value out"
            )
        if getattr(event, "tag", None) is not None:
            raise _refused(event.start_mark, f"tags ({event.tag}) are not allowed", "write the bare value")
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Quotes text that `_Loader`, or another program's YAML 1.1, would take for something else."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # Unless they are escaped, PyYAML reads line separators such as U+0085 back as spaces.
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=None if data.isprintable() else '"')


_Dumper.add_representer(str, _Dumper.represent_str)
_Loader.yaml_implicit_resolvers = {}  # without those of YAML 1.1, which it inherits
for _tag, _scalar in _SCALARS.items():
    _whole = re.compile(f"^(?:{_scalar.pattern})$", re.ASCII)
    _Loader.add_implicit_resolver(_tag, _whole, ["", *_scalar.first])
    _Dumper.add_implicit_resolver(_tag, _whole, ["", *_scalar.first])


def read_yaml(path: Path) -> Located:
    """Reads one config file.

    Raises:
        ConfigError: it cannot be read or is not YAML as described above; the message opens with file:line.
    """
    text, name = _read_text(path), shown(path)
    lines: dict[str, int] = {}
    try:
        node = yaml.compose(text, Loader=_Loader)
        if not isinstance(node, yaml.MappingNode):
            line = node.start_mark.line + 1 if node else 1
            raise ConfigError(
                f"{name}:{line}: expected lines of the form key: value", "nanocv config show lists all keys"
            )
        values = _build(node, "", lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        hint = error.note or "not valid YAML: check indentation, colons and quotes"
        raise ConfigError(f"{name}:{line}: {error.problem or error.context}", hint) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{name}:{line}: unprintable character {chr(error.character)!r}", "delete it") from error
    except RecursionError as error:
        raise ConfigError(f"{name}:1: nested too deeply", "a config has three levels at most") from error
    return Located(values, {key: f"{name}:{line}" for key, line in lines.items()}, f"{name}:1")


def parse_value(text: str) -> Any:
    """A `--set` value as YAML reads it: `5`, `true`, `[a, b]`, `{flip: true}`; what is no YAML stays text."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        return "" if node is None else _build(node, "", {})
    except (yaml.YAMLError, RecursionError):
        return text


def dump_yaml(values: dict[str, Any]) -> str:
    """Values as text that `read_yaml` reads back as they were."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _read_text(path: Path) -> str:
    try:
        content = read_regular(path, LARGEST_FILE)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise ConfigError(
                f"{shown(path)}:1: larger than {LARGEST_FILE:,} bytes", "a config is a page of text"
            ) from error
        hint = "check the path and its permissions"
        raise ConfigError(f"{shown(path)}: cannot be read: {error.strerror}", hint) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{shown(path)}:{line}: not UTF-8 text", "save the file as UTF-8") from error


def _build(node: yaml.Node, key: str, lines: dict[str, int]) -> Any:
    """The plain value of a node; notes the line of every key and list item below it by its dotted key."""
    if isinstance(node, yaml.MappingNode):
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            name = key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                raise _refused(key_node.start_mark, "expected a plain key", "keys are words, such as epochs")
            full = f"{key}.{name}" if key else name
            if name in values:
                raise _refused(
                    key_node.start_mark, f"{full} stands twice, first in line {lines[full]}", "delete one of them"
                )
            lines[full] = key_node.start_mark.line + 1
            values[name] = _build(value_node, full, lines)
        return values
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[f"{key}.{index}"] = item.start_mark.line + 1
        return [_build(item, f"{key}.{index}", lines) for index, item in enumerate(node.value)]
    if node.tag not in _SCALARS:
        return node.value
    try:
        return _SCALARS[node.tag].read(node.value)
    except ValueError as error:
        raise _refused(node.start_mark, f"{key} has too many digits", "a number has 4,300 digits at most") from error


def _refused(mark: yaml.Mark, problem: str, hint: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark, note=hint)
