"""An entry of a model repository: what it shall hold, how the present one differs, and written whole or not at all."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from nanocv_cli import files
from nanocv_cli.config.project import cache_folder, project_root
from nanocv_cli.config.schema import ServeConfig
from nanocv_cli.engine.card import METADATA_KEY
from nanocv_cli.engine.graph import Graph
from nanocv_cli.engine.runtimes import OPENVINO_FILE, RunSettings, open_in_process
from nanocv_cli.errors import ModelError, RequestError
from nanocv_cli.replaced_folder import put_in_place, staging
from nanocv_cli.serving.repository import pbtxt
from nanocv_cli.serving.repository.backends import BACKENDS, PYTHON_MODEL
from nanocv_cli.serving.repository.encoded_images import IMAGES_ARCHIVE, images_archive, left_behind, warmup_files
from nanocv_cli.serving.repository.model_config import LABELS, build_config, version_policy
from nanocv_cli.serving.repository.python_backend import SHIPPED_MODEL_PY
from nanocv_cli.serving.repository.versions import (
    GRAPH,
    LARGEST_GRAPH,
    MissingVersionError,
    check_alike,
    chosen,
    same_content,
    served,
    versions,
)
from nanocv_cli.untrusted import read_regular

CONFIG = "config.pbtxt"
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", re.ASCII)


@dataclass(frozen=True)
class Plan:
    """An entry as it shall be.

    Attributes:
        folder: of the entry.
        version: the one that holds the graph.
        config: for `config.pbtxt`.
        files: all others by path within the folder.
        left: what former entries of other settings left there, by path: nanocv's own files, which are to go. What else
            is there stays.
    """

    folder: Path
    version: int
    config: ModelConfig
    files: dict[str, bytes]
    left: tuple[str, ...] = ()

    def differences(self) -> list[str]:
        """What is otherwise in the folder, one line each; none where it is as it shall be.

        Raises:
            ModelError: its `config.pbtxt` is damaged, or a file cannot be read.
        """
        if not self.folder.is_dir():
            return [f"{self.folder}: there is no such entry"]
        path = self.folder / CONFIG
        found = [f"{path}: is missing"]
        if path.exists():
            found = [f"{path}: {line}" for line in pbtxt.config_differences(pbtxt.read_config(path), self.config)]
        for name, content in self.files.items():
            if not (self.folder / name).is_file():
                found.append(f"{self.folder / name}: is missing")
            elif not same_content(self.folder / name, content):
                found.append(f"{self.folder / name}: has another content")
        return [*found, *(f"{self.folder / name}: is of other settings" for name in self.left)]


class Source:
    """An exported graph, read once.

    Args:
        path: its file.
        settings: how it shall be served: what runs it then has to be able to.

    Raises:
        ModelError: it is missing, damaged or not ours, takes a fixed number of images, or cannot be run so.
        RequestError: it is in OpenVINO's own form, what shall run it is not installed, or this processor lacks the
            precision.
    """

    def __init__(self, path: Path, settings: ServeConfig) -> None:
        if path.suffix == OPENVINO_FILE:
            raise RequestError(
                f"{path} is OpenVINO's own form of a graph, and entries hold the ONNX one",
                "give the .onnx that lies beside it, with --backend openvino",
            )
        self.graph = Graph(path)
        self.graph.expect_promised_inputs()
        if settings.encoded:
            self.graph.expect_images()
        runtime = BACKENDS[settings.backend].runtime
        if runtime != self.graph.runtime:
            wanted = RunSettings(runtime, "cpu", precision=settings.precision)
            open_in_process(path, wanted, cache_folder(project_root()))
        try:
            self.content = read_regular(path, LARGEST_GRAPH)
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}", "nanocv export onnx writes one") from error

    def plan(
        self, repository: Path, settings: ServeConfig, name: str | None, version: int | None, next_version: bool = True
    ) -> Plan:
        """What the graph's entry in a repository shall hold.

        Args:
            repository: the folder of entries.
            settings: how to serve it.
            name: of the entry; None takes the model's.
            version: None takes the newest if its graph is this one, else the one after it.
            next_version: whether the newest version's graph is left alone if it is another one.

        Raises:
            RequestError: a name that is not a plain folder name, a version below 1, or a path that is no folder.
            ModelError: other versions that the settings serve too are not like this graph.
        """
        card = self.graph.card
        name = plain_name(card.name if name is None else name)
        if repository.exists() and not repository.is_dir():
            raise RequestError(f"{repository} is a file, not a folder of models", "give another one with --repository")
        folder = repository / name
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise RequestError(f"{folder} is not a folder of its own", "move it away, or choose another --name")
        version, there = chosen(folder, version, self.content, next_version), versions(folder)
        numbers = sorted({version, *there})
        try:
            others = served(numbers, version_policy(settings))
        except MissingVersionError as error:
            raise RequestError(
                f"there is no version {error.number} to serve, only {', '.join(map(str, numbers))}",
                "name versions that are there in serve.versions",
            ) from error
        check_alike(self.graph, folder, [number for number in others if number != version])
        config = build_config(self.graph.signature, settings, name, card.classes, card.input_size, card)
        files = {f"{version}/{GRAPH}": self.content}
        if any(output.label_filename for output in config.output):
            # One line each: a label with a line break in it would shift all that follow.
            files[LABELS] = "".join(f"{' '.join(label.splitlines())}\n" for label in card.classes).encode()
        if settings.backend == "python":
            # Older versions are served by the same backend, so each needs one.
            without = [number for number in there if not (folder / str(number) / PYTHON_MODEL).exists()]
            files |= {f"{number}/{PYTHON_MODEL}": SHIPPED_MODEL_PY.read_bytes() for number in {version, *without}}
        if settings.encoded:
            files |= warmup_files(settings.warmup)
            if settings.backend == "python":
                files[IMAGES_ARCHIVE] = images_archive()
        return Plan(folder, version, config, files, left_behind(folder, version, there, files))


def plain_name(name: str) -> str:
    """The name, if it can be that of a folder, and stand in a URL, everywhere.

    Raises:
        RequestError: it cannot.
    """
    if not PLAIN_NAME.fullmatch(name):
        raise RequestError(
            f"{name!r} cannot name a model on a server",
            "give a name of letters, digits, '_', '-' and '.' with --name, not beginning with '.' or '-'",
        )
    return name


@dataclass(frozen=True)
class Entry:
    """An entry that was written or checked.

    Attributes:
        model: its name.
        repository: the folder of entries.
        config: its `config.pbtxt`.
        version: the one that holds the graph.
        differences: what was otherwise before, one line each; where there is none, nothing was written.
        has_card: whether the model card travels with it: one that is too long for `config.pbtxt` stays behind.
    """

    model: str
    repository: Path
    config: Path
    version: int
    differences: tuple[str, ...]
    has_card: bool


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
    source = Source(graph, settings)
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
    plan = Source(graph, settings).plan(repository, settings, name, version, next_version=False)
    return _entry(plan, plan.differences())


def _entry(plan: Plan, differences: list[str]) -> Entry:
    return Entry(
        plan.folder.name,
        plan.folder.parent,
        plan.folder / CONFIG,
        plan.version,
        tuple(differences),
        METADATA_KEY in plan.config.parameters,
    )


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
    for name in plan.left:
        (folder / name).unlink()
        if not any((folder / name).parent.iterdir()):
            (folder / name).parent.rmdir()
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
