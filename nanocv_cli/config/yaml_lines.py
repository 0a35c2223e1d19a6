"""YAML files as plain values plus the line of every key, read safely and strictly.

Stricter than YAML: one mapping per file, no duplicate keys, no anchors, aliases or tags. Wider than PyYAML's YAML 1.1:
`2e-3` is a number; narrower: only `true` and `false` are booleans.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nanocv_cli.config.project import shown
from nanocv_cli.errors import ConfigError

LARGEST_FILE = 1 << 20


@dataclass(frozen=True)
class Document:
    """One file.

    Attributes:
        path: the file.
        values: its mapping.
        lines: the line of every key, by dotted key; of every list item by `key.0`.
    """

    path: Path
    values: dict[str, Any]
    lines: dict[str, int] = field(default_factory=dict)

    def where(self, key: str) -> str:
        """`file:line` of a dotted key, or of the nearest enclosing one."""
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return f"{shown(self.path)}:{self.lines.get(key, 1)}"


class _Loader(yaml.SafeLoader):
    """Safe loading with YAML 1.2's idea of booleans and floats."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":int", ":null"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+)$"),
    list("-+.0123456789"),
)


def parse_scalar(text: str) -> Any:
    """A `--set` value as YAML would read it in flow style: `5`, `true`, `[a, b]`; text that is no YAML stays text."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            return "" if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError):
        return text


def read_yaml(path: Path) -> Document:
    """Reads one config file.

    Raises:
        ConfigError: it cannot be read or is no valid YAML as described above; the message opens with file:line.
    """
    try:
        content = path.read_bytes()
        if len(content) > LARGEST_FILE:
            raise ConfigError(
                f"{shown(path)}:1: the file has {len(content):,} bytes; a config has at most {LARGEST_FILE:,}"
            )
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"{shown(path)}: cannot be read: {error.strerror}", "check the path and its permissions"
        ) from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(f"{shown(path)}:{line}: not UTF-8 text", "save the file as UTF-8") from error
    try:
        loader = _Loader(text)
        try:
            return _read_document(loader, path)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(
            f"{shown(path)}:{line}: not valid YAML: {error.problem}", "check indentation, colons and quotes"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{shown(path)}:1: not valid YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise ConfigError(f"{shown(path)}:1: nested too deeply", "a config needs three levels") from error


def _read_document(loader: _Loader, path: Path) -> Document:
    node = loader.get_single_node()
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1 if node else 1
        raise ConfigError(f"{shown(path)}:{line}: expected lines of the form key: value", "see configs/ for examples")
    document = Document(path, {})
    _walk(loader, node, "", document, set())
    document.values.update(loader.construct_document(node))
    return document


def _walk(loader: _Loader, node: yaml.Node, prefix: str, document: Document, seen: set[int]) -> None:
    """Notes the line of every key and refuses what a config must not hold."""
    if id(node) in seen:
        raise ConfigError(
            f"{shown(document.path)}:{node.start_mark.line + 1}: aliases (*name) are not allowed", "write it out"
        )
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            document.lines[f"{prefix}{index}"] = item.start_mark.line + 1
            _walk(loader, item, f"{prefix}{index}.", document, seen)
    if not isinstance(node, yaml.MappingNode):
        return
    first: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
            raise ConfigError(f"{shown(document.path)}:{line}: expected a plain key", "see configs/ for examples")
        key = key_node.value
        if key in first:
            raise ConfigError(
                f"{shown(document.path)}:{line}: {prefix}{key} stands twice (first in line {first[key]})",
                "delete one of them",
            )
        first[key] = line
        document.lines[f"{prefix}{key}"] = line
        _walk(loader, value_node, f"{prefix}{key}.", document, seen)
