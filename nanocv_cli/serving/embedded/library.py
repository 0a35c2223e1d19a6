"""The models a server holds: loaded from a repository folder, replaced and dropped while it runs."""

import asyncio
import logging
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from nanocv_cli.errors import ModelError, NanocvError
from nanocv_cli.serving.embedded.background import StillRunningError, in_daemon_thread
from nanocv_cli.serving.embedded.entry_files import entry_names
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.inference import settle
from nanocv_cli.serving.embedded.limits import DEFAULT_LIMITS, ModelLimits
from nanocv_cli.serving.embedded.loading import Loaders, UnknownEntryError, load_entry
from nanocv_cli.serving.embedded.model import LoadedModel
from nanocv_cli.serving.embedded.scheduler import Finish
from nanocv_cli.serving.embedded.watchdog import GRACE_SECONDS, TICK_SECONDS, Watchdog
from nanocv_cli.serving.repository.pbtxt import LARGEST_FILE
from nanocv_cli.untrusted import first_line, printable

DRAIN_SECONDS = 30.0
MOST_LOADS = 32  # under way, or waiting for their turn
MOST_LEAVING = 8  # models out of service that still have requests to answer, and so hold their memory
# What was told to stop has ended after so long, or never will.
PATIENCE_SECONDS = GRACE_SECONDS + 4 * TICK_SECONDS
LOG = logging.getLogger(__name__)


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

    @property
    def ready(self) -> bool:
        return bool(self.versions) and not any(model.failure for model in self.versions.values())


class Library:
    """All models of a server; every method belongs to the event loop's thread.

    Args:
        repository: a Triton model repository.
        limits: what one model may take.
    """

    def __init__(self, repository: Path, limits: ModelLimits = DEFAULT_LIMITS) -> None:
        self.repository = repository
        self._limits = limits
        self._shelves: dict[str, _Shelf] = {}
        self._loop = asyncio.get_running_loop()
        self._watchdog = Watchdog()
        self._loads: set[asyncio.Task[None]] = set()
        self._loaders = Loaders(limits.load_seconds)
        self._stuck: dict[str, threading.Thread] = {}
        self._leaving: dict[asyncio.Task[None], LoadedModel] = {}
        self._unfinished: list[LoadedModel] = []

    @property
    def ready(self) -> bool:
        """Whether every model that was asked for is there and answers."""
        return all(shelf.ready for shelf in self._shelves.values())

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
            raise Fault(f"Request for unknown model: '{printable(name)}' is not found", Status.NOT_FOUND)
        if not shelf.versions:
            raise Fault(f"Request for unknown model: '{name}' has no available versions", Status.NOT_FOUND)
        if not version:
            return shelf.versions[max(shelf.versions)]
        number = _version_number(version)
        if number not in shelf.versions:
            raise Fault(f"Request for unknown model: '{name}' version {number} is not found", Status.NOT_FOUND)
        return shelf.versions[number]

    def answers(self, name: str, version: str = "") -> bool:
        """Whether a model is there and in service; see `find`."""
        try:
            return not self.find(name, version).failure
        except Fault:
            return False

    def versions(self, name: str) -> list[str]:
        """The loaded versions of a model, oldest first."""
        return [str(number) for number in sorted(self._shelves[name].versions)] if name in self._shelves else []

    def index(self) -> list[IndexLine]:
        """What the repository holds, loaded or not.

        Raises:
            Fault: it cannot be read.
        """
        try:
            names = entry_names(self.repository)
        except OSError as error:
            raise Fault("the model repository cannot be read", Status.INTERNAL) from error
        lines = []
        for name in sorted({*names, *self._shelves}):
            shelf = self._shelves.get(name, _Shelf())
            for number, model in sorted(shelf.versions.items()):
                state = "UNAVAILABLE" if model.failure else "READY"
                lines.append(IndexLine(name, str(number), state, model.failure))
            if not shelf.versions:
                lines.append(IndexLine(name, "1", "UNAVAILABLE", shelf.failure) if shelf.failure else IndexLine(name))
        return lines

    def entries(self) -> list[str]:
        """The names of all entries in the repository's folder.

        Raises:
            ModelError: it cannot be read.
        """
        try:
            return entry_names(self.repository)
        except OSError as error:
            raise ModelError(
                f"{self.repository} cannot be read as a model repository: {error.strerror}",
                "nanocv serve config --model REF writes one",
            ) from error

    async def load(self, name: str, override: str = "") -> None:
        """Loads or reloads a model; what it served before goes on until the new one is ready, and stays if that fails.

        A name of which there is no entry leaves no trace. An entry that cannot be loaded stands in the index with the
        reason, and the server is not ready, until it is loaded, unloaded or removed.

        Args:
            name: of the entry.
            override: a `ModelConfig` as JSON that replaces the entry's.

        Raises:
            Fault: it cannot be loaded; the message says why.
        """
        if len(override) > LARGEST_FILE:
            raise Fault(
                f"failed to load '{printable(name)}': Invalid config override: larger than {LARGEST_FILE:,} bytes",
                Status.INTERNAL,
            )
        if len(self._loads) >= MOST_LOADS:
            raise Fault(f"{MOST_LOADS} models wait to be loaded: ask again later", Status.UNAVAILABLE)
        task = asyncio.create_task(self._load(name, override))
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        # If the client goes away its load goes on, or there could be as many at once as clients that go away.
        await asyncio.shield(task)

    async def unload(self, name: str) -> None:
        """Takes a model away; requests in its queue are still answered. Unknown names are passed over, as by Triton."""
        if name in self._loaders:
            async with self._loaders.alone_with(name):
                self._drain(self._shelves.pop(name, None))
        else:
            self._drain(self._shelves.pop(name, None))

    def give_up(self) -> None:
        """Ends all that is under way: queued requests are refused, runs and loads are told to stop."""
        self._watchdog.ending = True
        for model in [*self.loaded(), *self._leaving.values()]:
            model.close(0.0)

    async def close(self) -> bool:
        """Ends all models and loads, for nobody waits for them any more; whether that worked."""
        self.give_up()
        latest = time.monotonic() + PATIENCE_SECONDS
        loads = [*self._loads]
        if loads:
            await asyncio.wait(loads, timeout=PATIENCE_SECONDS)
        ended = await asyncio.gather(
            *(
                asyncio.to_thread(lambda model=model: model.close(max(0.0, latest - time.monotonic())))  # type: ignore[misc]
                for model in [*self.loaded(), *self._leaving.values()]
            )
        )
        await asyncio.gather(*self._leaving)
        self._watchdog.close()
        ended += [model.close(0.0) for model in self._unfinished]
        ended += [load.done() for load in loads]
        return all(ended) and not any(thread.is_alive() for thread in self._stuck.values())

    async def _load(self, name: str, override: str) -> None:
        shown = printable(name)
        async with self._loaders.alone_with(name):
            await self._wait_for_leaving()
            former = self._shelves.get(name, _Shelf())
            try:
                models = await self._read(name, override)
            except UnknownEntryError as error:
                if not former.versions:
                    self._shelves.pop(name, None)
                raise Fault(f"failed to load '{shown}': {error.message}", Status.INTERNAL) from error
            except Exception as error:
                why = _reason(shown, error)
                if not former.versions:
                    self._shelves[name] = _Shelf(failure=why)
                raise Fault(f"failed to load '{shown}': {why}", Status.INTERNAL) from error
            self._shelves[name] = _Shelf({model.version: model for model in models})
            self._drain(former)

    async def _read(self, name: str, override: str) -> list[LoadedModel]:
        """Loads an entry in a thread of its own, and waits for it no longer than that may take."""
        if name in self._stuck and self._stuck[name].is_alive():
            raise ModelError("an earlier attempt to load it has still not ended", "start the server again")
        self._stuck.pop(name, None)
        try:
            return await in_daemon_thread(
                lambda: load_entry(self.repository, name, override, self._deliver, self._watchdog, self._limits),
                self._limits.load_seconds + PATIENCE_SECONDS,
                too_late=lambda models: [model.close(0.0) for model in models],
            )
        except StillRunningError as error:
            self._stuck[name] = error.thread
            raise ModelError(
                f"it takes longer than {self._limits.load_seconds:g} s, and cannot be stopped", "mend its graph"
            ) from error

    async def _wait_for_leaving(self) -> None:
        """Waits until few former models are left.

        Raises:
            Fault: they have too much to answer.
        """
        latest = time.monotonic() + self._limits.load_seconds
        while len(self._leaving) >= MOST_LEAVING:
            if time.monotonic() >= latest:
                raise Fault(
                    "models that were replaced still have requests to answer: ask again later", Status.UNAVAILABLE
                )
            await asyncio.wait(self._leaving, timeout=self._limits.load_seconds, return_when=asyncio.FIRST_COMPLETED)

    def _drain(self, shelf: _Shelf | None) -> None:
        async def close(model: LoadedModel) -> None:
            if not await asyncio.to_thread(model.close, DRAIN_SECONDS):
                self._unfinished = [one for one in (*self._unfinished, model) if not one.close(0.0)]

        for model in shelf.versions.values() if shelf else ():
            task = asyncio.create_task(close(model))
            self._leaving[task] = model
            task.add_done_callback(lambda done: self._leaving.pop(done, None))

    def _deliver(self, finish: Finish) -> None:
        self._loop.call_soon_threadsafe(settle, finish)


def _reason(name: str, error: Exception) -> str:
    """Why a load failed, in one line; what is no fault of the entry stands in the log."""
    if isinstance(error, NanocvError):
        return printable(error.message, 500)
    LOG.error("model '%s' failed to load: %s: %s", name, type(error).__name__, first_line(error))
    return f"internal: {type(error).__name__}"


def _version_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) > 0):
        raise Fault(
            f"failed to get model version from specified version string '{printable(text)}', version should be "
            "an integral value > 0"
        )
    return int(text)
