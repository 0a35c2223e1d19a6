"""Who reads a key: the class of a config's section, put together from what its task and its network declare.

The table of tasks (`rooms.py`) names the classes by their paths; they are imported when a config needs them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pkgutil import resolve_name
from typing import Any, cast

from pydantic import BaseModel, Field, create_model

from nanocv_cli.config.expected_type import fields_at
from nanocv_cli.config.schema import GROUP_MODELS, ArchitectureArgs, ModelConfig, TrainConfig
from nanocv_cli.rooms import is_task, room, task_names

BASE_OWNERS = {
    "data": "every data set",
    "model": "every model",
    "train": "the training loop",
    "gpu": "analyze",
    "serve": "serve config",
}


@dataclass(frozen=True)
class Owner:
    """One who reads keys of a group.

    Attributes:
        name: for people: `the training loop`, `detection`, `lenet`.
        section: the class whose keys it reads, among others.
        prefix: of its keys within the group: `args.` for a network's, else empty.
        inherited: the class whose keys are not its own, though `section` has them.
    """

    name: str
    section: type[BaseModel]
    prefix: str = ""
    inherited: type[BaseModel] | None = None


def section_class(group: str, values: Mapping[str, Any], model: ModelConfig | None = None) -> type[BaseModel]:
    """The class that a section of a config is validated by.

    Args:
        group: data, model, train, gpu or serve.
        values: of the section, as they were read; of a model's its task and architecture count.
        model: the run's, for a recipe; None: what every recipe has.
    """
    if group == "model":
        task = values.get("task", ModelConfig.model_fields["task"].default)
        return model_class(task, values.get("source"), values.get("architecture"))
    if group == "train" and model is not None:
        return recipe_class(model.task)
    return GROUP_MODELS[group]


def recipe_class(task: str) -> type[TrainConfig]:
    """The class of a recipe for models of a task.

    Raises:
        ModelError: there is no such task, or the package that enters it is broken.
    """
    return cast(type[TrainConfig], resolve_name(room(task).recipe))


def model_class(task: Any, source: Any, architecture: Any) -> type[ModelConfig]:
    """The class of a model config; where task or architecture are wrong, that of the keys every model has."""
    if not isinstance(task, str) or not is_task(task):
        return ModelConfig
    own = cast(type[ModelConfig], resolve_name(room(task).model))
    is_own = source in (None, ModelConfig.model_fields["source"].default)
    arguments = room(task).arguments.get(str(architecture), "") if is_own else ""
    return _with_arguments(own, arguments) if arguments else own


@cache
def _with_arguments(own: type[ModelConfig], path: str) -> type[ModelConfig]:
    arguments = cast(type[ArchitectureArgs], resolve_name(path))
    told = own.model_fields["args"].description
    return create_model(own.__name__, __base__=own, args=(arguments, Field(arguments(), description=told)))


def owners(group: str) -> Iterator[Owner]:
    """All who read keys of a group: those of every config first, then tasks, then networks."""
    base = GROUP_MODELS[group]
    yield Owner(BASE_OWNERS[group], base)
    if group in ("model", "train"):
        for task in task_names():
            section = recipe_class(task) if group == "train" else resolve_name(room(task).model)
            if section is not base:
                yield Owner(task, section, inherited=base)
    if group == "model":
        for task in task_names():
            for network, path in room(task).arguments.items():
                yield Owner(network, resolve_name(path), prefix="args.")


def readers(group: str, key: str) -> list[str]:
    """The names of all who read a dotted key of a group."""
    found = []
    for owner in owners(group):
        if not key.startswith(owner.prefix):
            continue
        *parents, name = key.removeprefix(owner.prefix).split(".")
        shared = fields_at(owner.inherited, parents) if owner.inherited else {}
        if name in fields_at(owner.section, parents) and name not in shared:
            found.append(owner.name)
    return found


def field_classes(group: str) -> list[type[BaseModel]]:
    """Every class that a section of a group may be validated by: to know a field before its task is known."""
    return list(dict.fromkeys(owner.section for owner in owners(group) if not owner.prefix))
