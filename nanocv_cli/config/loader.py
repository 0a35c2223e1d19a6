"""From names and overrides to one resolved, typed config that knows where each value came from."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from nanocv_cli.config.located import Located, flatten
from nanocv_cli.config.lookup import read_defaults, read_group
from nanocv_cli.config.overrides import (
    NO_OPTIONS,
    Override,
    TrainOptions,
    all_overrides,
    overridden,
    parse_overrides,
)
from nanocv_cli.config.owners import section_class
from nanocv_cli.config.project import project_root
from nanocv_cli.config.schema import GROUP_MODELS, RUN_GROUPS, ModelConfig, RunConfig, ServeConfig
from nanocv_cli.config.upgrade import upgraded
from nanocv_cli.config.validation import validate
from nanocv_cli.config.yaml_lines import dump_yaml, read_yaml
from nanocv_cli.errors import ConfigError


@dataclass(frozen=True)
class Resolved:
    """A run's config.

    Attributes:
        config: typed and frozen.
        origins: for every dotted leaf key, `file:line`, `default`, or an option (`--set`, `--epochs`, ...).
    """

    config: RunConfig
    origins: dict[str, str]

    def to_yaml(self) -> str:
        """The config as a file that `load_resolved` reads back."""
        return dump_yaml(self.config.model_dump(mode="json"))


def resolve(
    data: str | None = None,
    model: str | Located | None = None,
    train: str | None = None,
    gpu: str | None = None,
    overrides: Sequence[str] = (),
    options: TrainOptions = NO_OPTIONS,
    others: Sequence[Override] = (),
) -> Resolved:
    """Resolves names into one config; None takes the name in `configs/defaults.yaml`.

    Args:
        data: a data config's name or file, or a folder of images.
        model: a model config's name or file, or a torchvision classifier; or the values themselves.
        train: a recipe's name or file; None takes the model's own `recipe` first.
        gpu: a GPU config's name or file.
        overrides: `group.key=value`, with the type of the field.
        options: those that stand for one key each.
        others: what else the command says of single keys.

    Raises:
        ConfigError: nothing of that name, or a file, option or override that is not valid; the message opens with its
            place.
    """
    root, changes = project_root(), all_overrides(options, overrides, others)
    defaults = read_defaults(root)

    def read(group: str, name: str | Located | None, asked_at: str = "") -> Located:
        if isinstance(name, Located):
            return overridden(group, name, changes)
        if name is None:
            name, asked_at = _default(group, defaults), defaults.where(group)
        return overridden(group, read_group(group, name, root, asked_at), changes)

    groups = {"data": read("data", data), "model": read("model", model)}
    recipe = groups["model"].value("recipe")
    if train is None and isinstance(recipe, str):
        groups["train"] = read("train", recipe, groups["model"].where("recipe"))
    else:
        groups["train"] = read("train", train)
    groups["gpu"] = read("gpu", gpu)
    typed = _typed(groups)
    origins = {
        f"{group}.{key}": origin
        for group, located in groups.items()
        for key, origin in _origins(typed[group], located).items()
    }
    return Resolved(RunConfig.model_validate(typed), origins)


def resolve_serve(
    name: str | None = None, options: Mapping[str, Any] | None = None, overrides: Sequence[str] = ()
) -> ServeConfig:
    """How to serve a model.

    Args:
        name: a serve config's name or file; None takes the one in `configs/defaults.yaml`.
        options: values of the command's own options by key of the group; None for one that was not given.
        overrides: `serve.key=value`; they win over `options`.

    Raises:
        ConfigError: nothing of that name, or a file, option or override that is not valid.
    """
    root, changes = project_root(), parse_overrides(overrides, ["serve"])
    asked_at = ""
    if name is None:
        defaults = read_defaults(root)
        name, asked_at = _default("serve", defaults), defaults.where("serve")
    located = read_group("serve", name, root, asked_at)
    for key, value in (options or {}).items():
        if value is not None:
            located = located.replaced(key, value, f"--{key.replace('_', '-')}")
    return validate(ServeConfig, overridden("serve", located, changes), "serve.")


def load_group(group: str, name: str) -> tuple[BaseModel, dict[str, str]]:
    """One group's typed config by name, file or (data) folder, and the origin of each of its keys.

    Raises:
        ConfigError: see `resolve`.
    """
    located = read_group(group, name, project_root())
    typed = validate(GROUP_MODELS[group], located, f"{group}.")
    return typed, _origins(typed, located)


def load_resolved(path: Path, overrides: Sequence[Override] = ()) -> RunConfig:
    """Reads the `config.yaml` of a run.

    Args:
        path: of the file.
        overrides: what is to be otherwise than it says.

    Raises:
        ConfigError: it is not valid.
    """
    whole = upgraded(read_yaml(path))
    parts = {group: overridden(group, part, overrides) for group in RUN_GROUPS if (part := whole.part(group))}
    if len(parts) == len(RUN_GROUPS) == len(whole.values):
        return RunConfig.model_validate(_typed(parts))
    return validate(RunConfig, whole, "")  # says which section is missing, no mapping or one too many


def _typed(groups: Mapping[str, Located]) -> dict[str, BaseModel]:
    """Each section by the class that its owners declare; the model's task decides for the recipe."""
    typed: dict[str, BaseModel] = {}
    for group, located in groups.items():
        model = typed.get("model")
        chosen = section_class(group, located.values, model if isinstance(model, ModelConfig) else None)
        typed[group] = validate(chosen, located, f"{group}.")
    return typed


def trained_config(config: RunConfig) -> dict[str, Any]:
    """The sections that decide what is trained, as a model card tells them; records and caches do not."""
    return config.model_dump(
        mode="json", include={"data", "model", "train"}, exclude={"train": {"log"}, "data": {"cache_gb"}}
    )


def config_hash(config: RunConfig, files: Mapping[str, str] = MappingProxyType({})) -> str:
    """16 hex digits over everything that decides what is trained: data, model and train, without paths.

    Args:
        config: of the run.
        files: hashes of the files that keys of its recipe name (`start`), which stand for them here.
    """
    content = trained_config(config)
    content["train"] |= {"start": None, **files}
    for key in ("path", "archive"):
        content["data"].pop(key)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _default(group: str, defaults: Located) -> str:
    name = defaults.value(group)
    if not isinstance(name, str):
        raise ConfigError(f"{defaults.where(group)}: names no {group}", f"add {group}: NAME, or give --{group} NAME")
    return name


def _origins(typed: BaseModel, located: Located) -> dict[str, str]:
    """Where each leaf key of a typed group came from."""
    keys = flatten(typed.model_dump(mode="json"))
    return {key: _origin(located.where(key)) if located.holds(key) else "default" for key in keys}


def _origin(place: str) -> str:
    """An override's place is its whole text; its origin is the option alone."""
    return "--set" if place.startswith("--set ") else place
