"""Validates config files one by one, with every finding of each."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from nanocv_cli.config.located import Located
from nanocv_cli.config.lookup import read_group
from nanocv_cli.config.owners import recipe_class, section_class
from nanocv_cli.config.project import project_root, shown
from nanocv_cli.config.schema import GROUP_MODELS, RUN_GROUPS, Defaults, ModelConfig, RunConfig
from nanocv_cli.config.upgrade import upgraded
from nanocv_cli.config.validation import findings
from nanocv_cli.config.yaml_lines import read_yaml
from nanocv_cli.errors import ConfigError
from nanocv_cli.rooms import task_names


@dataclass(frozen=True)
class Checked:
    """One file.

    Attributes:
        path: the file.
        group: data, model, train, gpu, serve, run, defaults or unknown.
        errors: what is wrong with it.
        tasks: of a recipe that nothing is wrong with: those whose models can be trained with it.
    """

    path: Path
    group: str
    errors: tuple[ConfigError, ...]
    tasks: tuple[str, ...] = ()


def check_file(path: Path) -> Checked:
    """Validates one file and the names of other configs in it.

    A run's config is known by its sections, `defaults.yaml` by its name, any other file by its folder's name.
    """
    folder = path.resolve().parent.name
    try:
        located = read_yaml(path)
    except ConfigError as error:
        return Checked(path, folder if folder in GROUP_MODELS else "unknown", (error,))
    if any(isinstance(located.values.get(group), dict) for group in RUN_GROUPS):
        return Checked(path, "run", _wrong_run(located))
    if path.name == "defaults.yaml":
        return Checked(
            path,
            "defaults",
            _wrong(Defaults, located, "") or _unknown_names(located, {group: group for group in GROUP_MODELS}),
        )
    if folder == "model":
        wrong = _wrong(section_class("model", located.values), located, "model.")
        return Checked(path, folder, wrong or _unknown_names(located, {"recipe": "train"}))
    if folder == "train":
        return _checked_recipe(path, located)
    if folder in GROUP_MODELS:
        return Checked(path, folder, _wrong(GROUP_MODELS[folder], located, f"{folder}."))
    message = f"{shown(path)}: its folder is {folder!r}; expected one of {', '.join(GROUP_MODELS)}, or a run's config"
    return Checked(path, "unknown", (ConfigError(message, "a config's folder says what it configures"),))


def _wrong_run(located: Located) -> tuple[ConfigError, ...]:
    whole = upgraded(located)
    parts = {group: part for group in RUN_GROUPS if (part := whole.part(group))}
    if not len(parts) == len(RUN_GROUPS) == len(whole.values):
        return _wrong(RunConfig, whole, "")
    model = findings(section_class("model", parts["model"].values), parts["model"], "model.")
    chosen = model if isinstance(model, ModelConfig) else None
    classes = {group: section_class(group, part.values, chosen) for group, part in parts.items()}
    return tuple(error for group, part in parts.items() for error in _wrong(classes[group], part, f"{group}."))


def _checked_recipe(path: Path, located: Located) -> Checked:
    """A recipe alone does not say which task it is for: what is wrong in it counts for whatever task it fits best."""
    wrong = {task: _wrong(recipe_class(task), located, "train.") for task in task_names()}
    tasks = tuple(task for task, errors in wrong.items() if not errors)
    return Checked(path, "train", min(wrong.values(), key=len), tasks)


def _wrong(model: type[BaseModel], located: Located, prefix: str) -> tuple[ConfigError, ...]:
    found = findings(model, located, prefix)
    return tuple(found) if isinstance(found, list) else ()


def _unknown_names(located: Located, groups: dict[str, str]) -> tuple[ConfigError, ...]:
    """One error for each key of `groups` whose value names no config of its group."""
    wrong = []
    for key, group in groups.items():
        name = located.value(key)
        try:
            if name is not None:
                read_group(group, name, project_root(), located.where(key))
        except ConfigError as error:
            wrong.append(error)
    return tuple(wrong)
