"""`--set group.key=value`, and options that stand for one key: one value of the config, with the type of its field."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nanocv_cli.config.expected_type import fields_at, is_text, takes_null
from nanocv_cli.config.located import Located
from nanocv_cli.config.nearest import nearest
from nanocv_cli.config.owners import field_classes
from nanocv_cli.config.schema import RUN_GROUPS
from nanocv_cli.config.yaml_lines import parse_value
from nanocv_cli.errors import ConfigError

LONGEST_TEXT = 60
# The key that each of `TrainOptions` stands for, as group and key.
KEYS = {
    "epochs": ("train", "epochs"),
    "batch_size": ("train", "batch_size"),
    "lr": ("train", "learning_rate"),
    "seed": ("train", "seed"),
    "name": ("model", "name"),
}
EXAMPLES = {"data": "train.epochs=5", "serve": "serve.instances=2"}  # by the first group a command works with


@dataclass(frozen=True)
class Override:
    """One value asked for on the command line.

    Attributes:
        group: data, model, train, gpu or serve.
        key: dotted, within its group.
        value: not yet typed.
        place: the option as it was written: `--set train.epochs=5`, or `--epochs`.
    """

    group: str
    key: str
    value: Any
    place: str


@dataclass(frozen=True)
class TrainOptions:
    """The options of a command that stand for one config key each (`KEYS`); None for one that was not given."""

    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    seed: int | None = None
    name: str | None = None

    def overrides(self) -> list[Override]:
        """Those that were given."""
        return [
            Override(*KEYS[option], value, f"--{option.replace('_', '-')}")
            for option, value in vars(self).items()
            if value is not None
        ]


NO_OPTIONS = TrainOptions()


def all_overrides(options: TrainOptions, texts: Sequence[str], others: Sequence[Override] = ()) -> list[Override]:
    """What options and `--set` ask for in a run's config; `others` are of options that only some commands have.

    Raises:
        ConfigError: an option and a `--set` ask for one key; else see `parse_overrides`.
    """
    by_set, plain = parse_overrides(texts), [*options.overrides(), *others]
    for one in plain:
        for other in by_set:
            if other.group == one.group and f"{other.key}.".startswith(f"{one.key}."):
                raise ConfigError(
                    f"{one.place} and {other.place} both say what {one.group}.{one.key} is", "leave one of the two out"
                )
    return [*plain, *by_set]


def parse_overrides(texts: Sequence[str], groups: Sequence[str] = RUN_GROUPS) -> list[Override]:
    """Reads the texts behind `--set`, such as `train.epochs=5`.

    Args:
        texts: as they were written.
        groups: those that the command works with.

    Raises:
        ConfigError: a text that is not GROUP.KEY=VALUE with one of `groups`.
    """
    return [_parse(text, groups) for text in texts]


def overridden(group: str, located: Located, overrides: Sequence[Override]) -> Located:
    """One group's values with its overrides applied in order, the last one winning."""
    for override in overrides:
        if override.group == group:
            located = located.replaced(override.key, override.value, override.place)
    return located


def _parse(text: str, groups: Sequence[str]) -> Override:
    place = f"--set {text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 3] + '...'}"
    full, equals, value = text.partition("=")
    group, _, key = full.strip().partition(".")
    if not equals or not key or group not in groups:
        hint = _meant(group, key, groups) or f"for example --set {EXAMPLES[groups[0]]}"
        raise ConfigError(f"{place}: expected GROUP.KEY=VALUE with one of the groups {', '.join(groups)}", hint)
    return Override(group, key, _typed(group, key, value), place)


def _meant(group: str, key: str, groups: Sequence[str]) -> str:
    """The nearest group to one that is not known, or the group that has a key which was given without one."""
    if group in groups:
        return ""
    if key:
        return nearest(group, groups).replace("?", f".{key}?")
    holding = [name for name in groups if any(group in section.model_fields for section in field_classes(name))]
    return f"did you mean {holding[0]}.{group}=...?" if holding else ""


def _typed(group: str, key: str, text: str) -> Any:
    """A field of text takes the text as it stands (but for null where it may be null), any other what YAML reads."""
    *parents, name = key.split(".")
    known = (fields_at(section, parents).get(name) for section in field_classes(group))
    field = next(filter(None, known), None)
    value = parse_value(text)
    if field is None or not is_text(field) or (value is None and takes_null(field)):
        return value
    return text
