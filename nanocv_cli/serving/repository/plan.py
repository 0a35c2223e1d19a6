"""What an entry of a model repository shall hold, and how one that is there differs from it."""

import re
from dataclasses import dataclass
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from nanocv_cli.config.schema import ServeConfig
from nanocv_cli.engine.graph import Graph
from nanocv_cli.errors import ModelError, RequestError
from nanocv_cli.serving.repository.differences import config_differences
from nanocv_cli.serving.repository.model_config import LABELS, build_config, version_policy
from nanocv_cli.serving.repository.pbtxt import read_config
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
PYTHON_MODEL = "model.py"
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", re.ASCII)


@dataclass(frozen=True)
class Plan:
    """An entry as it shall be.

    Attributes:
        folder: of the entry.
        version: the one that holds the graph.
        config: for `config.pbtxt`.
        files: all others by path within the folder. What else is there stays.
    """

    folder: Path
    version: int
    config: ModelConfig
    files: dict[str, bytes]

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
            found = [f"{path}: {line}" for line in config_differences(read_config(path), self.config)]
        for name, content in self.files.items():
            if not (self.folder / name).is_file():
                found.append(f"{self.folder / name}: is missing")
            elif not same_content(self.folder / name, content):
                found.append(f"{self.folder / name}: has another content")
        return found


class Source:
    """An exported graph, read once.

    Args:
        path: its file.

    Raises:
        ModelError: it is missing, damaged or not ours, or takes a fixed number of images.
    """

    def __init__(self, path: Path) -> None:
        self.graph = Graph(path)
        self.graph.expect_promised_inputs()
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
        return Plan(folder, version, config, files)


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
