"""Plain values into typed models, and pydantic's findings into one line each.

A line says where, what stands there and what was expected; its hint names what is near.
"""

from collections.abc import Mapping
from itertools import takewhile
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nanocv_cli.config.expected_type import allowed_names, expected, fields_at, meaning
from nanocv_cli.config.located import Located
from nanocv_cli.config.nearest import FORMER_KEYS, nearest
from nanocv_cli.config.owners import owners, readers
from nanocv_cli.config.schema import GROUP_MODELS
from nanocv_cli.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)

LONGEST_VALUE = 60


def validate(model: type[Model], located: Located, prefix: str) -> Model:
    """Builds a typed model.

    Args:
        model: its class.
        located: its values and their places.
        prefix: what precedes its keys in messages: `train.`; empty for a model of all groups.

    Raises:
        ConfigError: the first finding.
    """
    found = findings(model, located, prefix)
    if isinstance(found, list):
        raise found[0]
    return found


def findings(model: type[Model], located: Located, prefix: str) -> Model | list[ConfigError]:
    """The typed model, or every finding as an error with message and hint; one for a list with several wrong items."""
    try:
        return model.model_validate(_with_tuples(located.values))
    except ValidationError as error:
        described = [_described(model, finding, located, prefix) for finding in error.errors(include_url=False)]
        return list({one.message: one for one in described}.values())


def _with_tuples(value: Any) -> Any:
    """YAML's lists as the tuples that frozen, strictly typed models hold."""
    if isinstance(value, Mapping):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _described(model: type[BaseModel], finding: ErrorDetails, located: Located, prefix: str) -> ConfigError:
    # A finding inside a list (an int in its location) is told as one about the list.
    path = [str(part) for part in takewhile(lambda part: isinstance(part, str), finding["loc"])]
    # Within a mapping of names, too, a finding is told as one about the whole.
    while len(path) > 1 and finding["type"] != "extra_forbidden" and path[-1] not in fields_at(model, path[:-1]):
        path.pop()
    key, within_list = ".".join(path), len(path) < len(finding["loc"])
    place, full = located.where(key), f"{prefix}{key}"
    if finding["type"] == "extra_forbidden":
        known = list(fields_at(model, path[:-1]))
        hint = f"{nearest(path[-1], known)} known keys: {', '.join(known)}".strip()
        if full in FORMER_KEYS:
            return ConfigError(f"{place}: {full} is called {FORMER_KEYS[full]} now", hint)
        elsewhere = _readers(full)
        if elsewhere:
            told = f"{place}: {full} is read by {', '.join(elsewhere)}, not by {_chosen(model, full, located)}"
            return ConfigError(told, hint)
        return ConfigError(f"{place}: {full} is not a known key", hint)
    wanted = expected(model, path)
    if finding["type"] == "missing" and not within_list:
        return ConfigError(f"{place}: {full} is missing; expected {wanted}", f"add {path[-1]}: ...")
    value = located.value(key)
    another = f"write another value there: {meaning(model, path)}"
    if finding["type"] == "value_error":  # a rule between fields, which says itself what it expects
        return ConfigError(f"{place}: {full} is {_shown(value)}; {finding['ctx']['error']}", another)
    hint = _nearest_name(value, allowed_names(model, path)) or another
    return ConfigError(f"{place}: {full} is {_shown(value)}; expected {wanted}", hint)


def _nearest_name(value: Any, allowed: list[str]) -> str:
    """What was meant by a name that is not allowed, or by a list with one in it."""
    if isinstance(value, list | tuple):
        return next((nearest(str(item), allowed) for item in value if item not in allowed), "")
    return f"write a list: [{value}]" if value in allowed else nearest(str(value), allowed)


def _readers(full: str) -> list[str]:
    """Who reads a key that is known elsewhere."""
    group, _, key = full.partition(".")
    return readers(group, key) if key and group in GROUP_MODELS else []


def _chosen(model: type[BaseModel], full: str, located: Located) -> str:
    """Whose keys a section is validated by: of a recipe the task, of a model its network or its task."""
    group, _, key = full.partition(".")
    if group == "model":
        return str(located.value("architecture" if key.startswith("args.") else "task") or "this model")
    return next((owner.name for owner in owners(group) if owner.section is model), "what is configured here")


def _shown(value: Any) -> str:
    """A value as YAML has it, cut where it is long."""
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    text = "null" if value is None else text
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
