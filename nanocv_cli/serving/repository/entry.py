"""Writes one entry of a model repository, whole or not at all."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from nanocv_cli import files
from nanocv_cli.config.schema import ServeConfig
from nanocv_cli.engine.graph import Graph
from nanocv_cli.errors import ModelError
from nanocv_cli.replaced_folder import put_in_place, staging
from nanocv_cli.serving.repository import pbtxt
from nanocv_cli.serving.repository.plan import CONFIG, PYTHON_MODEL, Plan, Source
from nanocv_cli.serving.repository.python_backend import SHIPPED_MODEL_PY
from nanocv_cli.serving.repository.versions import GRAPH
from nanocv_cli.untrusted import holds


@dataclass(frozen=True)
class Entry:
    """An entry that was written or checked.

    Attributes:
        model: its name.
        repository: the folder of entries.
        config: its `config.pbtxt`.
        version: the one that holds the graph.
        differences: what was otherwise before, one line each; where there is none, nothing was written.
    """

    model: str
    repository: Path
    config: Path
    version: int
    differences: tuple[str, ...]


def write_entry(
    graph: Path, repository: Path, settings: ServeConfig, name: str | None = None, version: int | None = None
) -> Entry:
    """Writes `<repository>/<name>/config.pbtxt` and `<version>/model.onnx`, and what the backend needs besides.

    Whoever reads the entry meanwhile finds the former or the new one, whole; other versions stay. Two that write
    to one repository wait for each other.

    Args:
        graph: an exported graph.
        repository: the folder of entries, made if it is not there.
        settings: how to serve it.
        name: of the entry; None takes the model's.
        version: None takes the newest if its graph is this one, else the one after it.

    Raises:
        RequestError: a name, version or repository that cannot be.
        ModelError: the graph cannot be served, or the `config.pbtxt` that is there is damaged.
        StorageError: it cannot be written; what was there is untouched.
    """
    source = Source(graph)
    plan = source.plan(repository, settings, name, version)
    found = plan.differences()
    if found:
        with staging(repository.resolve()) as folder:
            plan = source.plan(repository, settings, name, version)  # another one may have written meanwhile
            if found := plan.differences():
                _build(plan, folder / plan.folder.name)
                put_in_place(folder / plan.folder.name, plan.folder.resolve())
    return _entry(plan, found)


def check_entry(
    graph: Path, repository: Path, settings: ServeConfig, name: str | None = None, version: int | None = None
) -> Entry:
    """Compares an entry's newest version, or the one given, with what `write_entry` would write; writes nothing.

    Raises:
        RequestError: as `write_entry`.
        ModelError: as `write_entry`.
    """
    plan = Source(graph).plan(repository, settings, name, version, next_version=False)
    return _entry(plan, plan.differences())


def _entry(plan: Plan, differences: list[str]) -> Entry:
    return Entry(plan.folder.name, plan.folder.parent, plan.folder / CONFIG, plan.version, tuple(differences))


def _build(plan: Plan, folder: Path) -> None:
    """The entry as planned, with all else that the present one holds.

    Raises:
        ModelError: the graph as copied cannot be loaded: it needs files besides.
    """
    if plan.folder.is_dir():
        shutil.copytree(plan.folder, folder, symlinks=True, copy_function=_linked)
    else:
        folder.mkdir()
    # `files` replaces a file, it never writes into one: hard links to the former entry's stay as they are.
    for name, content in plan.files.items():
        if not (folder / name).is_file():
            (folder / name).unlink(missing_ok=True)  # a pipe, say
        files.write_bytes(folder / name, content)
    pbtxt.write(folder / CONFIG, plan.config)
    left = folder / str(plan.version) / PYTHON_MODEL
    if plan.config.backend != "python" and left.is_file() and holds(left, SHIPPED_MODEL_PY.read_bytes()):
        left.unlink()
    try:
        Graph(folder / str(plan.version) / GRAPH)
    except ModelError as error:
        raise ModelError(
            f"{plan.folder.name}'s graph cannot be loaded by itself: it needs files beside it",
            "export it again, as one file: nanocv export onnx --model RUN",
        ) from error


def _linked(source: str, target: str) -> None:
    """A hard link where the file system has them, else a copy."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
