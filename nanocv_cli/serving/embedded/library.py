"""The models a server holds: loaded from a repository folder, replaced and dropped while it runs."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.errors import ModelError, NanocvError
from nanocv_cli.serving.embedded import plan
from nanocv_cli.serving.embedded.calls import settle
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.jobs import Finish
from nanocv_cli.serving.embedded.model import LoadedModel
from nanocv_cli.serving.embedded.supported import refuse_unsupported
from nanocv_cli.serving.repository.pbtxt import read_config

CONFIG = "config.pbtxt"
DRAIN_SECONDS = 30.0


@dataclass(frozen=True)
class IndexLine:
    """One line of the repository index; state and version are empty for a model that was never asked for."""

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""


@dataclass
class _Shelf:
    """What is known of one model: its loaded versions, and why the last load failed, if it did."""

    versions: dict[int, LoadedModel] = field(default_factory=dict)
    failure: str = ""


class Library:
    """All models of a server; every method belongs to the event loop's thread.

    Args:
        repository: a Triton model repository.
    """

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self._shelves: dict[str, _Shelf] = {}
        self._loop = asyncio.get_running_loop()
        self._loading = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        """Whether every model that was asked for is there."""
        return all(shelf.versions for shelf in self._shelves.values())

    def loaded(self) -> list[LoadedModel]:
        """All loaded versions of all models."""
        return [model for _, shelf in sorted(self._shelves.items()) for _, model in sorted(shelf.versions.items())]

    def find(self, name: str, version: str = "") -> LoadedModel:
        """A loaded model; no version means the newest.

        Raises:
            Fault: there is none.
        """
        shelf = self._shelves.get(name)
        if shelf is None:
            raise Fault(f"Request for unknown model: '{name}' is not found", Status.NOT_FOUND)
        if not shelf.versions:
            raise Fault(f"Request for unknown model: '{name}' has no available versions", Status.NOT_FOUND)
        if not version:
            return shelf.versions[max(shelf.versions)]
        number = _version_number(version)
        if number not in shelf.versions:
            raise Fault(f"Request for unknown model: '{name}' version {number} is not found", Status.NOT_FOUND)
        return shelf.versions[number]

    def versions(self, name: str) -> list[str]:
        """The loaded versions of a model, oldest first."""
        return [str(number) for number in sorted(self._shelves[name].versions)] if name in self._shelves else []

    def index(self) -> list[IndexLine]:
        """What the repository holds, loaded or not."""
        lines = []
        for name in sorted({*self.entries(), *self._shelves}):
            shelf = self._shelves.get(name)
            if shelf and shelf.versions:
                lines += [IndexLine(name, str(number), "READY") for number in sorted(shelf.versions)]
            elif shelf and shelf.failure:
                lines.append(IndexLine(name, "1", "UNAVAILABLE", shelf.failure))
            else:
                lines.append(IndexLine(name))
        return lines

    def entries(self) -> list[str]:
        """The names of all entries in the repository's folder.

        Raises:
            ModelError: it cannot be read.
        """
        try:
            return sorted(path.name for path in self.repository.iterdir() if (path / CONFIG).is_file())
        except OSError as error:
            raise ModelError(
                f"{self.repository} cannot be read as a model repository: {error.strerror}",
                "nanocv serve config --model REF writes one",
            ) from error

    async def load(self, name: str, override: str = "") -> None:
        """Loads or reloads a model; what it served before goes on until the new one is ready, and stays if that fails.

        Args:
            name: of the entry.
            override: a `ModelConfig` as JSON that replaces the entry's.

        Raises:
            Fault: it cannot be loaded; the message says why.
        """
        async with self._loading:
            former = self._shelves.get(name)
            try:
                models = await asyncio.to_thread(self._read, name, override)
            except NanocvError as error:
                if former is None or not former.versions:
                    self._shelves[name] = _Shelf(failure=error.message)
                raise Fault(f"failed to load '{name}': {error.message}", Status.INTERNAL) from error
            self._shelves[name] = _Shelf({model.version: model for model in models})
            self._drain(former)

    async def unload(self, name: str) -> None:
        """Takes a model away; requests in its queue are still answered. Unknown names are passed over, as by Triton."""
        async with self._loading:
            self._drain(self._shelves.pop(name, None))

    async def close(self) -> bool:
        """Answers what is queued and ends all models; whether all of it was done in time."""
        ended = await asyncio.gather(*(asyncio.to_thread(model.close, DRAIN_SECONDS) for model in self.loaded()))
        await asyncio.gather(*self._closing)
        return all(ended)

    def _drain(self, shelf: _Shelf | None) -> None:
        async def close(model: LoadedModel) -> None:
            await asyncio.to_thread(model.close, DRAIN_SECONDS)

        for model in shelf.versions.values() if shelf else ():
            task = asyncio.create_task(close(model))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _deliver(self, finish: Finish) -> None:
        self._loop.call_soon_threadsafe(settle, finish)

    def _read(self, name: str, override: str) -> list[LoadedModel]:
        entry = self.repository / name
        if Path(name).name != name or name in ("", ".", "..") or not entry.is_dir():
            raise ModelError(f"model not found in the repository {self.repository}")
        config = _parsed(override) if override else read_config(entry / CONFIG)
        config.name = config.name or name
        if config.name != name:
            raise ModelError(f"{entry / CONFIG} names the model '{config.name}', but its folder is '{name}'")
        refuse_unsupported(config)
        models: list[LoadedModel] = []
        try:
            for version in plan.served_versions(config, entry):
                models.append(LoadedModel(entry, version, config, self._deliver))
        except BaseException:
            for model in models:
                model.close(0.0)
            raise
        return models


def _parsed(text: str) -> pb.ModelConfig:
    try:
        return json_format.Parse(text, pb.ModelConfig())
    except json_format.ParseError as error:
        raise ModelError(f"Invalid config override: {error}") from error


def _version_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) > 0):
        raise Fault(f"failed to get model version from specified version string '{text}', version should be an "
                    "integral value > 0")  # fmt: skip
    return int(text)
