"""ONNX Runtime's sessions: the one place that sets them up, with one law for devices and one for threads."""

import re
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import onnxruntime

from nanocv_cli.errors import RequestError
from nanocv_cli.interrupts import tell_at_once
from nanocv_cli.machine import thread_limit

FATAL_ONLY = 4  # ONNX Runtime's log level: a failure is answered, not printed
PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
# What `auto` tries, in turn. Core ML computes in half precision where it sees fit, so it is used by name only.
BY_ITSELF = ("cuda", "cpu")
DEVICE = re.compile(r"([a-z]+)(?::(\d{1,4}))?", re.ASCII)

_stoppable: "WeakSet[onnxruntime.RunOptions]" = WeakSet()


@dataclass(frozen=True)
class Device:
    """Where a session runs: `name` is a key of `PROVIDERS`, `number` counts devices of that kind from 0."""

    name: str
    number: int = 0

    @property
    def provider(self) -> str:
        """ONNX Runtime's name of what runs a graph there."""
        return PROVIDERS[self.name]


CPU = Device("cpu")


def available_devices() -> list[str]:
    """Names of the devices that this build of ONNX Runtime was made for, the fastest first."""
    there = onnxruntime.get_available_providers()
    return [name for name, provider in PROVIDERS.items() if provider in there]


def pick_session_device(name: str) -> Device:
    """The device called `auto`, `cpu`, `cuda`, `cuda:1` or `coreml`; auto takes the first of cuda, cpu that is there.

    Raises:
        RequestError: there is no such device, or this build of ONNX Runtime cannot use it.
    """
    there = available_devices()
    if name == "auto":
        return Device(next(device for device in BY_ITSELF if device in there))
    found = DEVICE.fullmatch(name)
    if not found or found[1] not in PROVIDERS or (found[2] and found[1] != "cuda"):
        raise RequestError(f"unknown device {name!r}", f"use auto, {', '.join(PROVIDERS)}, or cuda:1 for a second GPU")
    if found[1] not in there:
        raise _missing(found[1])
    return Device(found[1], int(found[2] or 0))


def session_options(
    threads: int = 0,
    inter_op_threads: int = 0,
    parallel: bool = False,
    spinning: bool = True,
    whole_numbers: bool = True,
) -> Any:
    """Options that every session shares; a caller may add its own.

    Args:
        threads: within an operator; 0: ONNX Runtime chooses, but no more than this process may use.
        inter_op_threads: across operators, likewise; they are used where `parallel` is.
        parallel: whether operators that do not need each other run at the same time.
        spinning: whether a thread that waits for its next part keeps its processor meanwhile.
        whole_numbers: whether an int8 graph is computed in int8; else its rounded values are, in fp32.
    """
    onnxruntime.disable_telemetry_events()
    onnxruntime.set_default_logger_severity(FATAL_ONLY)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.intra_op_num_threads = threads or thread_limit()
    options.inter_op_num_threads = inter_op_threads or (thread_limit() if parallel else 0)
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not whole_numbers:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    if parallel:
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    return options


def new_session(source: str | bytes, options: Any, device: Device = CPU) -> Any:
    """A session on a device, and nowhere else.

    Args:
        source: an ONNX file's path or content.
        options: of `session_options`.
        device: where it runs; what a provider lacks runs on the CPU, node by node.

    Raises:
        RequestError: the device cannot be used: no such GPU, or its libraries are missing.
        Exception: ONNX Runtime's own, which share no base class: the graph is damaged.
    """
    number = {"device_id": str(device.number)} if device.name == "cuda" else {}
    # A fallback would run the graph elsewhere than asked, and keep the whole file in memory for that.
    session = onnxruntime.InferenceSession(source, options, providers=[(device.provider, number)], enable_fallback=0)
    # ONNX Runtime passes over a provider whose libraries it cannot load, in silence.
    if device.provider not in session.get_providers():
        raise _missing(device.name)
    return session


def stoppable() -> onnxruntime.RunOptions:
    """Options of a session's runs that Ctrl-C and SIGTERM end at the next node: a loop may have years to go."""
    options = onnxruntime.RunOptions()
    _stoppable.add(options)
    tell_at_once(_stop_runs)
    return options


def _stop_runs() -> None:
    for options in list(_stoppable):
        options.terminate = True


def _missing(name: str) -> RequestError:
    others = ", ".join(device for device in available_devices() if device != name)
    install = "; for NVIDIA's GPUs: pip install onnxruntime-gpu" if name == "cuda" else ""
    return RequestError(f"ONNX Runtime has no {name} device here", f"it has: {others}{install}")
