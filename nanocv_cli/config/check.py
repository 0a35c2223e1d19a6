"""Validates config files one by one, with every finding of each."""

from dataclasses import dataclass
from pathlib import Path

from nanocv_cli.config.loader import GROUP_MODELS
from nanocv_cli.config.schema import RunConfig
from nanocv_cli.config.validation import findings
from nanocv_cli.config.yaml_lines import Document, read_yaml
from nanocv_cli.errors import ConfigError


@dataclass(frozen=True)
class Checked:
    """One file: its group (data, model, train, gpu, run or defaults) and what is wrong with it."""

    path: Path
    group: str
    errors: tuple[ConfigError, ...]


def check_file(path: Path) -> Checked:
    """Validates one file; its group is its folder's name, a run's `config.yaml` holds all groups."""
    try:
        document = read_yaml(path)
    except ConfigError as error:
        return Checked(path, path.parent.name, (error,))
    group = path.parent.name
    if path.name == "defaults.yaml":
        return Checked(path, "defaults", tuple(_wrong_defaults(document)))
    if group in GROUP_MODELS:
        found = findings(GROUP_MODELS[group], document.values, document.where, group)
        return Checked(path, group, tuple(found) if isinstance(found, list) else ())
    if set(document.values) & set(GROUP_MODELS):
        whole = findings(RunConfig, document.values, document.where, "")
        return Checked(path, "run", tuple(whole) if isinstance(whole, list) else ())
    message = f"{path}: its folder is {group!r}; expected one of {', '.join(GROUP_MODELS)}, or a run's config.yaml"
    return Checked(path, "unknown", (ConfigError(message, "a config's folder says what it configures"),))


def _wrong_defaults(document: Document) -> list[ConfigError]:
    return [
        ConfigError(
            f"{document.where(key)}: {key} is not a known key or not a name", f"keys: {', '.join(GROUP_MODELS)}"
        )
        for key, value in document.values.items()
        if key not in GROUP_MODELS or not isinstance(value, str)
    ]
