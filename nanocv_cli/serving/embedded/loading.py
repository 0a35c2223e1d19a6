"""Reads an entry of a repository and loads it: all that may take time, or fail; and who may do so now."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.errors import ModelError
from nanocv_cli.serving.embedded import plan
from nanocv_cli.serving.embedded.entry_files import check_names, check_override, is_entry, read_entry_config
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.limits import ModelLimits
from nanocv_cli.serving.embedded.model import LoadedModel
from nanocv_cli.serving.embedded.scheduler import Deliver
from nanocv_cli.serving.embedded.supported import check_copies, check_numbers, refuse_unsupported
from nanocv_cli.serving.embedded.watchdog import Watchdog
from nanocv_cli.serving.repository.entry import CONFIG
from nanocv_cli.untrusted import first_line, printable

LOADERS = 2  # a slow one holds no other up, and memory is for few


class UnknownEntryError(ModelError):
    """There is no entry of that name."""


def load_entry(
    repository: Path, name: str, override: str, deliver: Deliver, watchdog: Watchdog, limits: ModelLimits
) -> list[LoadedModel]:
    """Loads those versions of an entry that its version policy wants served.

    Args:
        repository: the folder of entries.
        name: of the entry.
        override: a `ModelConfig` as JSON that replaces the entry's; empty for none.
        deliver: takes the answers of each batch; see `Scheduler`.
        watchdog: ends what takes too long.
        limits: what a model may take.

    Raises:
        UnknownEntryError: there is none of that name.
        ModelError: it cannot be loaded; the message names no path.
    """
    deadline = time.monotonic() + limits.load_seconds
    if not is_entry(repository, name):
        raise UnknownEntryError("model not found in the repository", "nanocv serve config writes one")
    entry = repository / name
    config = _parsed(override) if override else read_entry_config(entry)
    config.name = config.name or name
    if config.name != name:
        raise ModelError(
            f"{CONFIG} names the model '{printable(config.name)}', but its folder is '{name}'", f"mend {CONFIG}"
        )
    refuse_unsupported(config)
    check_numbers(config, limits)
    check_names(config)
    if override:
        check_override(config, entry)
    versions = plan.served_versions(config, entry)
    check_copies(config, len(versions), limits)
    models: list[LoadedModel] = []
    try:
        for version in versions:
            models.append(LoadedModel(entry, version, config, deliver, watchdog, limits, deadline))
    except BaseException:
        for model in models:
            model.close(0.0)
        raise
    return models


def _parsed(text: str) -> pb.ModelConfig:
    try:
        return json_format.Parse(text, pb.ModelConfig())
    except json_format.ParseError as error:
        raise ModelError(f"Invalid config override: {first_line(error)}", "send a ModelConfig as JSON") from error


class Loaders:
    """The names of the models that are being loaded or unloaded.

    Args:
        seconds: longest wait for one's turn.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._busy: set[str] = set()
        self._freed = asyncio.Condition()

    def __contains__(self, name: str) -> bool:
        return name in self._busy

    @asynccontextmanager
    async def alone_with(self, name: str) -> AsyncIterator[None]:
        """Waits until nobody else loads or unloads this model, and only a few others are being loaded.

        Raises:
            Fault: that is not so for too long.
        """
        async with self._freed:
            try:
                async with asyncio.timeout(self._seconds):
                    await self._freed.wait_for(lambda: name not in self._busy and len(self._busy) < LOADERS)
            except TimeoutError as error:
                raise Fault("other models are being loaded: ask again later", Status.UNAVAILABLE) from error
            self._busy.add(name)
        try:
            yield
        finally:
            self._busy.discard(name)
            async with self._freed:
                self._freed.notify_all()
