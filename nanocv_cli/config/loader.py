"""From names and overrides to one resolved, typed config that knows where each value came from."""

import copy
import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from nanocv_cli.config.flatten import flatten
from nanocv_cli.config.project import config_folders, project_root, shown
from nanocv_cli.config.schema import DataConfig, GpuConfig, ModelConfig, RunConfig, TrainConfig
from nanocv_cli.config.validation import validate
from nanocv_cli.config.yaml_lines import Document, parse_scalar, read_yaml
from nanocv_cli.config.zoo import TORCHVISION_CLASSIFIERS
from nanocv_cli.errors import ConfigError

GROUP_MODELS: dict[str, type[BaseModel]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "train": TrainConfig,
    "gpu": GpuConfig,
}
TORCHVISION_TEMPLATE = "torchvision"


@dataclass(frozen=True)
class Resolved:
    """A run's config.

    Attributes:
        config: typed and frozen.
        origins: for every dotted leaf key, `file:line`, `default`, `--set`, `--data` or `--model`.
    """

    config: RunConfig
    origins: dict[str, str]

    def to_yaml(self) -> str:
        """The config as a file that `load_resolved` reads back."""
        return yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


@dataclass(frozen=True)
class _Section:
    """One group's values before they are typed, and where each came from."""

    values: dict[str, Any]
    document: Document | None
    source: str

    def where(self, key: str) -> str:
        return self.document.where(key) if self.document else self.source


def resolve(
    data: str | None = None,
    model: str | None = None,
    train: str | None = None,
    gpu: str | None = None,
    overrides: Sequence[str] = (),
) -> Resolved:
    """Resolves names into one config; None takes the name in `configs/defaults.yaml`.

    Args:
        data: a data config's name or file, or a folder of pictures.
        model: a model config's name or file, or a torchvision classifier.
        train: a recipe's name or file; None takes the model's own `recipe` first.
        gpu: a GPU config's name or file.
        overrides: `group.key=value`, with the type of the field.

    Raises:
        ConfigError: nothing of that name, or a file or override that is not valid; the message opens with its place.
    """
    root = project_root()
    names = _defaults(root)
    sections = {
        "data": _data_section(data or names["data"], root),
        "model": _model_section(model or names["model"], root),
    }
    recipe = sections["model"].values.get("recipe")
    sections["train"] = _file_section("train", train or (recipe if isinstance(recipe, str) else names["train"]), root)
    sections["gpu"] = _file_section("gpu", gpu or names["gpu"], root)
    changed = _apply(overrides, sections)
    typed: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for group, section in sections.items():

        def where(key: str, group: str = group, section: _Section = section) -> str:
            full = f"{group}.{key}"
            related = (text for name, text in changed.items() if _within(full, name) or _within(name, full))
            return next((f"--set {text}" for text in related), section.where(key))

        typed[group] = validate(GROUP_MODELS[group], section.values, where, group)
        for key in flatten(typed[group].model_dump(mode="json")):
            full = f"{group}.{key}"
            if any(_within(full, name) for name in changed):
                origins[full] = "--set"
            else:
                origins[full] = section.where(key) if _has(section.values, key) else "default"
    return Resolved(RunConfig(**typed), origins)


def load_group(group: str, name: str) -> tuple[BaseModel, dict[str, str]]:
    """One group's typed config by name, file or (data) folder, and the origin of each of its keys.

    Raises:
        ConfigError: see `resolve`.
    """
    root = project_root()
    section = {"data": _data_section, "model": _model_section}.get(group, lambda n, r: _file_section(group, n, r))(
        name, root
    )
    typed = validate(GROUP_MODELS[group], section.values, section.where, group)
    keys = flatten(typed.model_dump(mode="json"))
    return typed, {key: section.where(key) if _has(section.values, key) else "default" for key in keys}


def load_resolved(path: Path) -> RunConfig:
    """Reads the `config.yaml` of a run.

    Raises:
        ConfigError: it is not valid.
    """
    document = read_yaml(path)
    return validate(RunConfig, document.values, document.where, "")


def config_hash(config: RunConfig) -> str:
    """16 hex digits over everything that decides what is learnt: data, model and train, without paths."""
    content = config.model_dump(mode="json", include={"data", "model", "train"})
    for key in ("path", "archive"):
        content["data"].pop(key)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _defaults(root: Path) -> dict[str, str]:
    """The names a bare command uses: the project's `defaults.yaml` over the shipped one."""
    names: dict[str, str] = {}
    for folder in reversed(config_folders(root)):
        if (folder / "defaults.yaml").is_file():
            document = read_yaml(folder / "defaults.yaml")
            for key, value in document.values.items():
                if key not in GROUP_MODELS:
                    near = difflib.get_close_matches(key, GROUP_MODELS, 1)
                    hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(GROUP_MODELS)}"
                    raise ConfigError(f"{document.where(key)}: {key} is not a known key", hint)
                if not isinstance(value, str):
                    raise ConfigError(f"{document.where(key)}: {key} is {value!r}; expected a name")
                names[key] = value
    return names


def _file_section(group: str, name: str, root: Path) -> _Section:
    path = find_config(group, name, root)
    document = read_yaml(path)
    return _Section(document.values, document, shown(path))


def _data_section(name: str, root: Path) -> _Section:
    """A data config, or a folder of pictures: `flowers` is a name even where a folder `flowers` lies about."""
    folder = Path(name)
    if folder.is_dir() and ("/" in name or name in (".", "..") or _find_named("data", name, root) is None):
        values = {"name": folder.resolve().name or "pictures", "path": str(folder.resolve())}
        return _Section(values, None, "--data")
    return _file_section("data", name, root)


def _model_section(name: str, root: Path) -> _Section:
    """A model config, or a torchvision classifier on the values of `model/torchvision.yaml`."""
    if name in TORCHVISION_CLASSIFIERS and _find_named("model", name, root) is None:
        section = _file_section("model", TORCHVISION_TEMPLATE, root)
        return _Section({**section.values, "name": name, "architecture": name}, section.document, "--model")
    return _file_section("model", name, root)


def find_config(group: str, name: str, root: Path) -> Path:
    """A config's file: a path that ends in .yaml or .yml, else the project's of that name, else the shipped one.

    Raises:
        ConfigError: there is none; names the nearest.
    """
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise ConfigError(f"no file {name}", f"a name without .yaml is looked for in configs/{group}/")
        return Path(name)
    path = _find_named(group, name, root)
    if path is None:
        known = sorted({p.stem for folder in config_folders(root) for p in (folder / group).glob("*.yaml")})
        wider = known + list(TORCHVISION_CLASSIFIERS) if group == "model" else known
        near = difflib.get_close_matches(name, wider, 1)
        also = ", or any torchvision classifier" if group == "model" else ""
        also += ", or a folder of pictures" if group == "data" else ""
        hint = (f"did you mean {near[0]}? " if near else "") + f"known: {', '.join(known)}{also}"
        raise ConfigError(f"no {group} config {name!r}", hint)
    return path


def _find_named(group: str, name: str, root: Path) -> Path | None:
    candidates = (folder / group / f"{name}.yaml" for folder in config_folders(root))
    return next((path for path in candidates if path.is_file()), None)


def _apply(overrides: Sequence[str], sections: dict[str, _Section]) -> dict[str, str]:
    """Puts `--set` values into the sections; returns the full text of each by its dotted key."""
    for group, section in sections.items():
        sections[group] = _Section(copy.deepcopy(section.values), section.document, section.source)
    changed: dict[str, str] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        group, _, inner = key.strip().partition(".")
        if not equals or not inner or group not in sections:
            near = difflib.get_close_matches(group, sections, 1)
            hint = (
                f"did you mean {near[0]}.{inner or 'KEY'}?"
                if near and group not in sections
                else "e.g. --set train.epochs=5"
            )
            raise ConfigError(f"--set {text}: expected GROUP.KEY=VALUE with one of {', '.join(sections)}", hint)
        target = sections[group].values
        *parents, last = inner.split(".")
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise ConfigError(f"--set {text}: {parent} has no keys of its own", "nanocv config show lists all keys")
        target[last] = _typed_text(GROUP_MODELS[group], inner, value)
        changed[f"{group}.{inner}"] = text
    return changed


def _typed_text(model: type[BaseModel], key: str, text: str) -> Any:
    """An override's value: as YAML reads it, but a field of text takes the text as it stands."""
    value = parse_scalar(text)
    for name in key.split("."):
        field = model.model_fields.get(name)
        if field is None:
            return value
        annotation: Any = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return text if annotation is str or (annotation == str | None and value is not None) else value


def _within(key: str, other: str) -> bool:
    """Whether a dotted key is another one or lies below it."""
    return key == other or key.startswith(f"{other}.")


def _has(values: dict[str, Any], key: str) -> bool:
    node: Any = values
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True
