"""One copy of a graph as the server holds it: from bytes that refer to nothing outside, laid out and run in time."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pkgutil import resolve_name
from typing import Protocol, cast

from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.engine.runtimes import find_runtime
from nanocv_cli.engine.signature import GraphSignature
from nanocv_cli.errors import ModelError, RequestError
from nanocv_cli.serving.embedded.backends import SERVED, parameters
from nanocv_cli.serving.embedded.encoding import Array
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.limits import ModelLimits
from nanocv_cli.serving.embedded.watchdog import Turn, Watchdog, nothing
from nanocv_cli.serving.repository.backends import backend_of

# Work that is told to stop by the function given when its time is up.
Watched = Callable[[Callable[[], None]], AbstractContextManager[Turn]]


class Copy(Protocol):
    """A graph as a runtime has laid it out, run by one thread at a time.

    Attributes:
        runtime: what messages call that.
        signature: of the graph.
    """

    @property
    def runtime(self) -> str: ...

    @property
    def signature(self) -> GraphSignature: ...

    def run(self, names: Sequence[str], feeds: Mapping[str, Array], watched: Watched) -> list[Array]:
        """The outputs of these names; raises whatever the runtime does."""

    def reason(self, error: Exception) -> str:
        """What the runtime says in an error, in one line, without the places in its own source."""


class Layer(Protocol):
    """Lays out a graph as often as a config asks for.

    Args:
        content: an ONNX file's.
        config: checked by `check_numbers`.
        values: of its parameters.
        watched: stops what takes too long to lay out.

    Raises:
        ModelError: the graph is damaged, or this machine cannot run it as the config says.
        RequestError: likewise, in words that do not name the model.
    """

    def __call__(
        self, content: bytes, config: pb.ModelConfig, values: Mapping[str, int | str], watched: Watched
    ) -> Sequence[Copy]: ...


class Session:
    """A copy whose runs end in time.

    Args:
        copy: of the graph.
        watchdog: ends what takes too long.
        limits: how long that is.

    Attributes:
        copy: as given.
        lost: called when a run goes on though it was told to stop.
    """

    def __init__(self, copy: Copy, watchdog: Watchdog, limits: ModelLimits) -> None:
        self.copy, self._watchdog, self._limits = copy, watchdog, limits
        self.lost = nothing

    def run(self, names: Sequence[str], feeds: Mapping[str, Array], deadline: float | None = None) -> list[Array]:
        """The outputs for some inputs.

        Args:
            names: of the outputs.
            feeds: by input.
            deadline: of `time.monotonic`, if it is to be sooner than after the longest time that a run may take.

        Raises:
            Fault: it took too long, or the server ends.
            Exception: whatever else the runtime raises.
        """
        now = time.monotonic()
        latest = now + self._limits.run_seconds
        if deadline is not None:
            latest = min(latest, deadline)
            if now >= latest:
                raise self._stopped(deadline)
        turns: list[Turn] = []

        def watched(stop: Callable[[], None]) -> Turn:
            turns.append(self._watchdog.watch(latest, stop, self.lost))
            return turns[0]

        try:
            return self.copy.run(names, feeds, watched)
        except Exception as error:
            if turns and turns[0].stopped:
                raise self._stopped(deadline) from error
            raise

    def _stopped(self, deadline: float | None) -> Fault:
        if self._watchdog.ending:
            return Fault("the server is shutting down", Status.UNAVAILABLE, "BACKEND")
        words = f"the graph was stopped: a run may take {self._limits.run_seconds:g} s"
        if deadline is not None:
            words += f", and loading a model {self._limits.load_seconds:g} s in all"
        return Fault(words, Status.TIMED_OUT, "BACKEND")


def sessions(
    content: bytes, config: pb.ModelConfig, watchdog: Watchdog, limits: ModelLimits, deadline: float
) -> list[Session]:
    """All copies of a graph that a config asks for.

    Args:
        content: an ONNX file's, which refers to no other file.
        config: its backend, threads and the like; checked by `check_numbers`.
        watchdog: ends what takes too long.
        limits: how long that is.
        deadline: of `time.monotonic`, by which they are laid out.

    Raises:
        ModelError: the graph is damaged, takes too long to lay out, or cannot be run here as the config says.
    """
    backend = backend_of(config)
    turns: list[Turn] = []
    too_slow = ModelError(
        f"{config.name}: the graph was not laid out in the {limits.load_seconds:g} s that loading a model may take",
        "serve fewer instances or versions of it",
    )

    def watched(stop: Callable[[], None]) -> Turn:
        if time.monotonic() >= deadline:
            raise too_slow
        turns.append(watchdog.watch(deadline, stop))
        return turns[-1]

    try:
        find_runtime(backend.runtime)
        layer = cast(Layer, resolve_name(SERVED[backend.name].layer))
        copies = layer(content, config, parameters(config, limits), watched)
    except (RequestError, ModelError) as error:
        if any(turn.stopped for turn in turns):
            raise too_slow from error
        if error is too_slow:
            raise
        raise ModelError(f"{config.name}: {error.message}", error.hint) from error
    return [Session(copy, watchdog, limits) for copy in copies]
