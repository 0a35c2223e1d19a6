"""ONNX Runtime's sessions as the server holds them: from bytes that refer to nothing outside, built and run in time."""

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import onnxruntime
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.engine.sessions import CPU, FATAL_ONLY, Device, available_devices, new_session, session_options
from nanocv_cli.errors import ModelError, RequestError
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.limits import ModelLimits
from nanocv_cli.serving.embedded.supported import parameters
from nanocv_cli.serving.embedded.tensors import Array
from nanocv_cli.serving.embedded.watchdog import Watchdog, nothing
from nanocv_cli.untrusted import first_line

SOURCE_PLACE = re.compile(r"\S*/onnxruntime_src/\S+ ?")


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
