"""Plain values into typed models; what does not fit, in one line: where, what, what was expected, what is near."""

import difflib
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from nanocv_cli.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
Where = Callable[[str], str]

NUMBER_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def validate(model: type[Model], values: Mapping[str, Any], where: Where, prefix: str) -> Model:
    """Builds a typed model.

    Args:
        model: its class.
        values: as YAML gave them.
        where: names the place of a dotted key (without the prefix).
        prefix: the group's name, for the message: `train`.

    Raises:
        ConfigError: the first finding, as one line.
    """
    found = findings(model, values, where, prefix)
    if isinstance(found, list):
        raise found[0]
    return found


def findings(model: type[Model], values: Mapping[str, Any], where: Where, prefix: str) -> Model | list[ConfigError]:
    """The typed model, or every finding as an error with message and hint."""
    try:
        return model.model_validate(_tuples(values))
    except ValidationError as error:
        return [_describe(model, dict(finding), where, prefix) for finding in error.errors(include_url=False)]


def _tuples(value: Any) -> Any:
    """YAML's lists as the tuples that frozen, strictly typed models hold."""
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _describe(model: type[BaseModel], finding: dict[str, Any], where: Where, prefix: str) -> ConfigError:
    path = [str(part) for part in finding["loc"]]
    key = ".".join(path)
    full = ".".join(part for part in (prefix, key) if part)
    place = where(key)
    if finding["type"] == "extra_forbidden":
        known = list(_fields_at(model, path[:-1]))
        near = difflib.get_close_matches(path[-1], known, 1)
        hint = (f"did you mean {near[0]}? " if near else "") + f"known keys: {', '.join(known)}"
        return ConfigError(f"{place}: {full} is not a known key", hint)
    if path and path[-1].isdigit():  # a list of the wrong length, or with a wrong item
        full = full.rpartition(".")[0]
        return ConfigError(f"{place}: {full} is not as it should be; expected {expected(model, path)}")
    if finding["type"] == "missing":
        return ConfigError(
            f"{place}: {full} is missing; expected {expected(model, path)}", f"add a line {path[-1]}: ..."
        )
    return ConfigError(
        f"{place}: {full} is {_shown_value(finding['input'])}; expected {expected(model, path)}",
        _literal_hint(model, path, finding["input"]),
    )


def expected(model: type[BaseModel], path: list[str]) -> str:
    """What a field takes, in words: `a whole number >= 1`, `one of adamw, sgd`."""
    names = [part for part in path if not part.isdigit()]
    fields = _fields_at(model, names[:-1])
    if not names or names[-1] not in fields:
        return "other values"
    field = fields[names[-1]]
    words = _type_in_words(field.annotation)
    bounds = [
        f"{symbol} {getattr(rule, attribute):g}"
        for rule in field.metadata
        for attribute, symbol in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
        if getattr(rule, attribute, None) is not None
    ]
    return " ".join([words, " and ".join(bounds)]).strip()


def _fields_at(model: type[BaseModel], path: list[str]) -> dict[str, Any]:
    """The fields of the model that a dotted path leads to."""
    for name in path:
        field = model.model_fields.get(name)
        inner = (
            [t for t in _alternatives(field.annotation) if isinstance(t, type) and issubclass(t, BaseModel)]
            if field
            else []
        )
        if not inner:
            return {}
        model = inner[0]
    return dict(model.model_fields)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _type_in_words(annotation: Any) -> str:
    words = []
    for kind in _alternatives(annotation):
        if typing.get_origin(kind) is typing.Literal:
            words.append("one of " + ", ".join(map(str, typing.get_args(kind))))
        elif typing.get_origin(kind) is tuple:
            items = typing.get_args(kind)
            count = "a list of" if items[-1] is Ellipsis else f"a list of {len(items)}"
            words.append(f"{count} {'texts' if items[0] is str else 'numbers'}")
        elif kind is type(None):
            words.append("null")
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            words.append("keys " + ", ".join(kind.model_fields))
        else:
            words.append(NUMBER_NAMES.get(kind, str(kind)))
    return " or ".join(words)


def _literal_hint(model: type[BaseModel], path: list[str], value: Any) -> str:
    field = _fields_at(model, path[:-1]).get(path[-1]) if path else None
    allowed = [str(a) for kind in _alternatives(field.annotation) for a in typing.get_args(kind)] if field else []
    near = difflib.get_close_matches(str(value), allowed, 1)
    return f"did you mean {near[0]}?" if near else ""


def _shown_value(value: Any) -> str:
    text = repr(list(value) if isinstance(value, tuple) else value)
    text = {"True": "true", "False": "false", "None": "null"}.get(text, text)
    return text if len(text) <= 60 else text[:57] + "..."
