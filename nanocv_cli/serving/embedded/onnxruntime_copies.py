"""Copies of a graph by ONNX Runtime: a session each, on the processor or a GPU."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import onnxruntime
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.engine.graph import graph_signature
from nanocv_cli.engine.sessions import CPU, FATAL_ONLY, Device, available_devices, new_session, session_options
from nanocv_cli.errors import ModelError, RequestError
from nanocv_cli.machine import usable_processors
from nanocv_cli.serving.embedded.encoding import Array
from nanocv_cli.serving.embedded.session import Watched
from nanocv_cli.untrusted import first_line

SOURCE_PLACE = re.compile(r"\S*/onnxruntime_src/\S+ ?")


class OnnxRuntimeCopy:
    """See `session.Copy`.

    Args:
        content: an ONNX file's.
        options: of `sessions.session_options`.
        device: where it runs.

    Attributes:
        raw: ONNX Runtime's session.

    Raises:
        RequestError: the device cannot be used.
        Exception: ONNX Runtime's own.
    """

    runtime = "onnx runtime"

    def __init__(self, content: bytes, options: Any, device: Device) -> None:
        self.raw = new_session(content, options, device)
        self.raw._model_bytes = None
        self.signature = graph_signature(self.raw)

    def run(self, names: Sequence[str], feeds: Mapping[str, Array], watched: Watched) -> list[Array]:
        """See `session.Copy`; it can be stopped between two operators and at each turn of a loop."""
        options = onnxruntime.RunOptions()
        options.log_severity_level = FATAL_ONLY
        with watched(lambda: setattr(options, "terminate", True)):
            found: list[Array] = self.raw.run(names, feeds, options)
        return found

    def reason(self, error: Exception) -> str:
        """See `session.Copy`."""
        return _reason(error)


def lay_out(
    content: bytes, config: pb.ModelConfig, values: Mapping[str, int | str], watched: Watched
) -> list[OnnxRuntimeCopy]:
    """See `session.Layer`. One set of weights would do for all, but ONNX Runtime shares none between sessions."""
    places = devices(config)
    copies: list[OnnxRuntimeCopy] = []
    for device in places:
        options = _options(config, values, len(places))
        with watched(lambda options=options: options.set_load_cancellation_flag(True)):  # type: ignore[misc]
            try:
                copies.append(OnnxRuntimeCopy(content, options, device))
            except RequestError:
                raise
            except Exception as error:  # ONNX Runtime's errors share no base class
                raise ModelError(
                    f"the graph cannot be loaded: {_reason(error)}", "export it again: nanocv export onnx"
                ) from error
    return copies


def devices(config: pb.ModelConfig) -> list[Device]:
    """The device of each copy; one CPU copy where the config names none.

    Raises:
        RequestError: it asks for a GPU where there is none.
    """
    kinds, has_gpu = pb.ModelInstanceGroup, "cuda" in available_devices()
    found: list[Device] = []
    for group in config.instance_group:
        on_gpu = group.kind == kinds.KIND_GPU or (group.kind == kinds.KIND_AUTO and has_gpu)
        if on_gpu and not has_gpu:
            raise RequestError(
                "instance_group asks for a GPU, and this ONNX Runtime has none",
                "use KIND_CPU (nanocv serve config --kind cpu), or install onnxruntime-gpu",
            )
        numbers = (group.gpus or [0]) if on_gpu else [0]
        found += [Device("cuda", number) if on_gpu else CPU for number in numbers for _ in range(max(1, group.count))]
    return found or [CPU]


def _options(config: pb.ModelConfig, values: Mapping[str, int | str], copies: int) -> Any:
    # Copies that are alone may have all processors; several would keep each other from them.
    share = max(1, usable_processors() // copies) if copies > 1 else 0
    options = session_options(
        int(values.get("intra_op_thread_count", 0)) or share,
        int(values.get("inter_op_thread_count", 0)) or share,
        parallel=bool(values.get("execution_mode")),
        # Threads that spin while they wait for work would take the cores from those that receive and send.
        spinning=False,
    )
    options.enable_cpu_mem_arena = bool(values.get("enable_mem_arena", 1))
    options.enable_mem_pattern = bool(values.get("enable_mem_pattern", 1))
    levels = onnxruntime.GraphOptimizationLevel
    if config.optimization.HasField("graph"):
        # Triton's numbers: -1 basic, 1 extended, 2 none.
        chosen = {-1: levels.ORT_ENABLE_BASIC, 1: levels.ORT_ENABLE_EXTENDED, 2: levels.ORT_DISABLE_ALL}
        options.graph_optimization_level = chosen.get(config.optimization.graph.level, levels.ORT_ENABLE_ALL)
    # Without it ONNX Runtime guesses by the content, and has formats that `refuse_external_data` does not read.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options


def _reason(error: Exception) -> str:
    return SOURCE_PLACE.sub("", first_line(error))
