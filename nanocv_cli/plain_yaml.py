"""YAML as plain dicts, lists and texts, built from the parser's events: bounded in depth and number, no recursion."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import yaml

DEEPEST = 64
# Aliases counted with all that they stand for, since whoever walks the value meets all of it.
MOST_VALUES = 200_000


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
        return _built(yaml.parse(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        raise YamlProblem(error.problem or "not valid YAML", error.problem_mark or error.context_mark) from error
    except yaml.YAMLError as error:
        raise YamlProblem("characters that YAML does not allow", None) from error


@dataclass
class _Open:
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


def _built(events: Iterable[Any]) -> Any:
    opened: list[_Open] = []
    anchors: dict[str, tuple[Any, int]] = {}
    value: Any
    count, documents, root = 0, 0, None
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise YamlProblem("expected one document", event.start_mark)
        if isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            if len(opened) == DEEPEST:
                raise YamlProblem("nested too deeply", event.start_mark)
            empty: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
            opened.append(_Open(empty, event.anchor, count))
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
        if count > MOST_VALUES:
            raise YamlProblem(f"more than {MOST_VALUES:,} values", event.start_mark)
        if anchor:
            anchors[anchor] = value, weight
        if opened:
            opened[-1].add(value, event.start_mark)
        else:
            root = value
    return root
