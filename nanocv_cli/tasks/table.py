"""The parts of a task's room, imported when they are first asked for: one function for each, with its type."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, cast

from nanocv_cli.errors import ModelError
from nanocv_cli.rooms import broken, room

if TYPE_CHECKING:  # the training side imports torch
    import torch

    from nanocv_cli.engine.engine import Engine
    from nanocv_cli.tasks.base import Task
    from nanocv_cli.tasks.postprocessor import Postprocessor
    from nanocv_cli.tasks.sampler import Sampler


def task_for(name: str) -> "Task":
    """The training side of a task that a model config or card names.

    Raises:
        ModelError: there is no such task.
    """
    return cast("Task", _made_once(room(name).task))


def postprocessor_for(name: str) -> "Postprocessor[Any]":
    """What understands the graph's answers to images of a task that a card names; imports no torch.

    Raises:
        ModelError: there is no such task, or its models answer no images.
    """
    path = room(name).postprocessor
    if path is None:
        raise ModelError(f"a {name} model makes images, it reads none", "nanocv sample --model REF")
    return cast("Postprocessor[Any]", _made_once(path))


def graph_sampler_for(name: str) -> "Callable[[Engine], Sampler]":
    """What makes images by an opened graph, of a task that a card names; imports no torch.

    Raises:
        ModelError: there is no such task, or its models make no images.
    """
    return cast("Callable[[Engine], Sampler]", _sampler(name, room(name).graph_sampler))


def checkpoint_sampler_for(name: str) -> "Callable[[Path, torch.device], Sampler]":
    """What opens a checkpoint as a sampler, of a task that a card names.

    Raises:
        ModelError: there is no such task, or its models make no images.
    """
    return cast("Callable[[Path, torch.device], Sampler]", _sampler(name, room(name).checkpoint_sampler))


def browser_module_for(name: str) -> str:
    """The text of the ES module that understands the graph's answers in a browser, of a task that a card names.

    Raises:
        ModelError: there is no such task, nothing does for it, or the package that brings it is broken.
    """
    path = room(name).browser
    if path is None:
        raise ModelError(
            f"nothing understands the answers of a {name} model in a browser", "nanocv serve run serves it"
        )
    package, _, file = path.partition("/")
    try:
        return (files(package) / file).read_text(encoding="utf-8")
    except (ImportError, OSError, ValueError) as error:
        raise broken(name, str(error), f"it names {path}") from error


def _sampler(name: str, path: str | None) -> object:
    if path is None:
        raise ModelError(f"a {name} model makes no images", "nanocv infer IMAGES --model REF")
    return resolve_name(path)


@cache
def _made_once(path: str) -> object:
    return resolve_name(path)()
