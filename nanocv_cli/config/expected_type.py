"""What a config field takes, in words: `a whole number >= 1`, `one of adamw, sgd`."""

import json
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, core_schema

SCALAR_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
SYMBOLS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "multiple_of": "a multiple of", "max_length": "of length <="}
ITEM_NAMES = {float: "numbers", int: "whole numbers", str: "texts"}


@dataclass(frozen=True)
class OneOf:
    """Annotates a text that is one of names which are known only when it is read.

    Attributes:
        names: all of them, for messages.
        holds: whether a text is one of them.
    """

    names: Callable[[], tuple[str, ...]]
    holds: Callable[[str], bool]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, text: str) -> str:
        if not self.holds(text):
            raise PydanticCustomError("unknown_name", "not one of the known names")
        return text


def expected(model: type[BaseModel], path: list[str]) -> str:
    """The type and range of the field at `path`."""
    field = fields_at(model, path[:-1])[path[-1]]
    kind, *others = map(_kind, _alternatives(field.annotation))
    kind = next((f"one of {', '.join(rule.names())}" for rule in _name_rules(field)), kind)
    bounds = " and ".join(filter(None, map(_bound, field.metadata)))
    return " or ".join([f"{kind} {bounds}".strip(), *others])


def meaning(model: type[BaseModel], path: list[str]) -> str:
    """What the field at `path` is for and what it is where nobody says, as far as its declaration tells."""
    field = fields_at(model, path[:-1])[path[-1]]
    default = field.get_default()
    is_plain = not field.is_required() and isinstance(default, bool | int | float | str | tuple | types.NoneType)
    told = f"its default is {_default(default)}" if is_plain else f"it is {expected(model, path)}"
    return f"{field.description}; {told}" if field.description else told


def _default(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_default, value))}]"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def allowed_names(model: type[BaseModel], path: list[str]) -> list[str]:
    """The values of a field that takes one of a few names, or a list of such; none for any other field."""
    field = fields_at(model, path[:-1])[path[-1]]
    kinds = [_item(kind) for kind in _alternatives(field.annotation)]
    listed = [
        name for kind in kinds if typing.get_origin(kind) is typing.Literal for name in map(str, typing.get_args(kind))
    ]
    return listed + [name for rule in _name_rules(field) for name in rule.names()]


def fields_at(model: type[BaseModel], path: list[str]) -> dict[str, FieldInfo]:
    """The fields of the model that `path` leads to; none where it leads to a plain value or nowhere."""
    for name in path:
        field = model.model_fields.get(name)
        inner = [kind for kind in _alternatives(field.annotation) if _is_model(kind)] if field else []
        if not inner:
            return {}
        model = inner[0]
    return dict(model.model_fields)


def is_text(field: FieldInfo) -> bool:
    """Whether a field takes free text."""
    return str in _alternatives(field.annotation)


def takes_null(field: FieldInfo) -> bool:
    """Whether null is one of a field's values."""
    return type(None) in _alternatives(field.annotation)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the annotation by itself."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _item(kind: Any) -> Any:
    """What a list of any length holds; any other type as it is."""
    arguments = typing.get_args(kind)
    return arguments[0] if typing.get_origin(kind) is tuple and arguments[-1] is Ellipsis else kind


def _name_rules(field: FieldInfo) -> list[OneOf]:
    return [rule for rule in field.metadata if isinstance(rule, OneOf)]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _kind(kind: Any) -> str:
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Annotated:
        return _kind(arguments[0])
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if typing.get_origin(kind) is tuple:
        count = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
        first = arguments[0]
        if typing.get_origin(first) is typing.Annotated:
            bounds = " and ".join(_bound(rule) for field in first.__metadata__ for rule in field.metadata)
            return f"a list of {count}{ITEM_NAMES[typing.get_args(first)[0]]}, each {bounds}"
        if typing.get_origin(first) is typing.Literal:
            return f"a list of {count}names, each {_kind(first)}"
        items = ITEM_NAMES.get(first) or f"lists of {_kind(arguments[0]).removeprefix('a list of ')}"
        return f"a list of {count}{items}"
    if typing.get_origin(kind) is dict:
        return f"a mapping of names, each to {_kind(arguments[1])}"
    if _is_model(kind):
        return "keys " + ", ".join(kind.model_fields) if kind.model_fields else "no keys"
    return SCALAR_NAMES[kind]


def _bound(rule: Any) -> str:
    if getattr(rule, "min_length", None) == 1:
        return "that is not empty"
    return " and ".join(
        f"{symbol} {_number(getattr(rule, name))}" for name, symbol in SYMBOLS.items() if hasattr(rule, name)
    )


def _number(limit: Any) -> str:
    return f"{limit:g}" if isinstance(limit, float) else str(limit)
