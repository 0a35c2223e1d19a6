"""ONNX Runtime's sessions as the server holds them: from bytes that refer to nothing outside, built and run in time.

ONNX Runtime looks between two operators, and at each turn of a loop, whether it shall stop. One thread, the watchdog,
tells it so when the time is up: a thread that runs a graph cannot look at the clock itself.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import onnxruntime
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.engine.sessions import CPU, FATAL_ONLY, Device, available_devices, new_session, session_options
from nanocv_cli.errors import ModelError, RequestError
from nanocv_cli.serving.embedded.encoding import Array
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.limits import ModelLimits
from nanocv_cli.serving.embedded.supported import parameters
from nanocv_cli.untrusted import first_line

TICK_SECONDS = 0.25
# What was told to stop and has not after so long is taken for lost: no operator of a small model runs that long.
GRACE_SECONDS = 5.0
LOG = logging.getLogger(__name__)
SOURCE_PLACE = re.compile(r"\S*/onnxruntime_src/\S+ ?")


def nothing() -> None:
    """Does nothing."""


class Turn:
    """One piece of work that must end in time; a context that lasts as long as the work.

    Attributes:
        stopped: whether it was told to stop.
    """

    __slots__ = ("_deadline", "_lost", "_stop", "_told", "_watchdog", "stopped")

    def __init__(self, watchdog: "Watchdog", deadline: float, stop: Callable[[], None], lost: Callable[[], None]):
        self._watchdog, self._deadline, self._stop, self._lost = watchdog, deadline, stop, lost
        self._told = 0.0
        self.stopped = False

    def __enter__(self) -> Self:
        self._watchdog.turns.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watchdog.turns.discard(self)

    def look(self, now: float, ending: bool) -> None:
        """Tells the work to stop if its time is up, and gives it up if that has not helped."""
        if not self.stopped and (ending or now >= self._deadline):
            self.stopped, self._told = True, now
            self._stop()
        elif self.stopped and now >= self._told + GRACE_SECONDS:
            lost, self._lost = self._lost, nothing
            lost()


class Watchdog:
    """A thread that looks several times a second at all work that must end in time; it lives as long as the server.

    Attributes:
        turns: the work under way. Threads add and take away, each in one step of the interpreter.
        ending: all work is to stop, whatever time it has left.
    """

    def __init__(self) -> None:
        self.turns: set[Turn] = set()
        self.ending = False
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def watch(self, deadline: float, stop: Callable[[], None], lost: Callable[[], None] = nothing) -> Turn:
        """Work that must end.

        Args:
            deadline: of `time.monotonic`.
            stop: called once, from the watchdog's thread, when the deadline is past.
            lost: called once when the work goes on in spite of that.
        """
        return Turn(self, deadline, stop, lost)

    def close(self) -> None:
        """Ends the thread."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(TICK_SECONDS):
            now = time.monotonic()
            for turn in self.turns.copy():
                try:
                    turn.look(now, self.ending)
                except Exception as error:  # whatever it is, the others have to be looked after
                    LOG.error("work could not be stopped: %s", type(error).__name__)


class Session:
    """One copy of a graph.

    Args:
        content: an ONNX file's.
        config: its threads, memory and optimisation; checked by `check_numbers`.
        device: where it runs.
        watchdog: ends what takes too long.
        limits: how long that is.
        deadline: of `time.monotonic`, by which it is built.

    Attributes:
        raw: ONNX Runtime's session.
        lost: called when a run goes on though it was told to stop.

    Raises:
        ModelError: the graph is damaged, or takes too long to lay out.
    """

    def __init__(
        self,
        content: bytes,
        config: pb.ModelConfig,
        device: Device,
        watchdog: Watchdog,
        limits: ModelLimits,
        deadline: float,
    ) -> None:
        self._watchdog, self._limits = watchdog, limits
        self.lost = nothing
        options = _options(config, limits)
        if time.monotonic() >= deadline:
            raise self._too_slow(config.name)
        with watchdog.watch(deadline, lambda: options.set_load_cancellation_flag(True)) as turn:
            try:
                self.raw = new_session(content, options, device)
                self.raw._model_bytes = None
            except RequestError as error:
                raise ModelError(f"{config.name}: {error.message}", error.hint) from error
            except Exception as error:  # ONNX Runtime's errors share no base class
                if turn.stopped:
                    raise self._too_slow(config.name) from error
                raise ModelError(
                    f"{config.name}: the graph cannot be loaded: {reason(error)}",
                    "export it again: nanocv export onnx",
                ) from error

    def run(
        self, names: Sequence[str] | None, feeds: Mapping[str, Array], deadline: float | None = None
    ) -> list[Array]:
        """The outputs for some inputs.

        Args:
            names: of the outputs; None for all.
            feeds: by input.
            deadline: of `time.monotonic`, if it is to be sooner than after the longest time that a run may take.

        Raises:
            Fault: it took too long, or the server ends.
            Exception: whatever else ONNX Runtime raises.
        """
        options = onnxruntime.RunOptions()
        options.log_severity_level = FATAL_ONLY
        now = time.monotonic()
        latest = now + self._limits.run_seconds
        if deadline is not None:
            latest = min(latest, deadline)
            if now >= latest:
                raise self._stopped(deadline)
        with self._watchdog.watch(latest, lambda: setattr(options, "terminate", True), self.lost) as turn:
            try:
                found: list[Array] = self.raw.run(names, feeds, options)
            except Exception as error:
                if turn.stopped:
                    raise self._stopped(deadline) from error
                raise
        return found

    def _too_slow(self, model: str) -> ModelError:
        return ModelError(
            f"{model}: the graph was not laid out in the {self._limits.load_seconds:g} s that loading a model may take",
            "serve fewer instances or versions of it",
        )

    def _stopped(self, deadline: float | None) -> Fault:
        if self._watchdog.ending:
            return Fault("the server is shutting down", Status.UNAVAILABLE, "BACKEND")
        words = f"the graph was stopped: a run may take {self._limits.run_seconds:g} s"
        if deadline is not None:
            words += f", and loading a model {self._limits.load_seconds:g} s in all"
        return Fault(words, Status.TIMED_OUT, "BACKEND")


def reason(error: Exception) -> str:
    """What ONNX Runtime says, without the places in its own source."""
    return SOURCE_PLACE.sub("", first_line(error))


def devices(config: pb.ModelConfig) -> list[Device]:
    """The device of each copy; one CPU copy where the config names none.

    Raises:
        ModelError: it asks for a GPU where there is none.
    """
    kinds, has_gpu = pb.ModelInstanceGroup, "cuda" in available_devices()
    found: list[Device] = []
    for group in config.instance_group:
        on_gpu = group.kind == kinds.KIND_GPU or (group.kind == kinds.KIND_AUTO and has_gpu)
        if on_gpu and not has_gpu:
            raise ModelError(
                f"{config.name}: instance_group asks for a GPU, and this ONNX Runtime has none",
                "use KIND_CPU (nanocv serve config --kind cpu), or install onnxruntime-gpu",
            )
        if group.kind == kinds.KIND_CPU and group.gpus:
            raise ModelError(f"{config.name}: instance_group of KIND_CPU names gpus", "take them out of config.pbtxt")
        numbers = (group.gpus or [0]) if on_gpu else [0]
        found += [Device("cuda", number) if on_gpu else CPU for number in numbers for _ in range(max(1, group.count))]
    return found or [CPU]


def _options(config: pb.ModelConfig, limits: ModelLimits) -> Any:
    values = parameters(config, limits)
    options = session_options(
        values.get("intra_op_thread_count", 0),
        values.get("inter_op_thread_count", 0),
        bool(values.get("execution_mode")),
    )
    options.enable_cpu_mem_arena = bool(values.get("enable_mem_arena", 1))
    options.enable_mem_pattern = bool(values.get("enable_mem_pattern", 1))
    levels = onnxruntime.GraphOptimizationLevel
    if config.optimization.HasField("graph"):
        # Triton's numbers: -1 basic, 1 extended, 2 none.
        chosen = {-1: levels.ORT_ENABLE_BASIC, 1: levels.ORT_ENABLE_EXTENDED, 2: levels.ORT_DISABLE_ALL}
        options.graph_optimization_level = chosen.get(config.optimization.graph.level, levels.ORT_ENABLE_ALL)
    # Threads that spin while they wait for work would take the cores from those that receive and send.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without it ONNX Runtime guesses by the content, and has formats that `refuse_external_data` does not read.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options
