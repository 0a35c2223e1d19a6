"""What runs an exported graph in this process: the table of runtimes, and how one is opened.

It imports none of them, nor much else at its top: every start of the command line reads the names.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from nanocv_cli.errors import RequestError

if TYPE_CHECKING:
    from nanocv_cli.engine.engine import Engine

AUTO = "auto"
TORCH, ONNX = "torch", "onnx"
PRECISIONS = FP32, BF16 = "fp32", "bf16"
# Of a graph's file, which any engine computes as it is stored.
STORED_PRECISIONS = "fp16", "int8"
ONNX_FILE, OPENVINO_FILE = ".onnx", ".xml"
OPENVINO_WEIGHTS = ".bin"  # beside the other, with the same stem


@dataclass(frozen=True)
class RunSettings:
    """How a graph is run in this process.

    Attributes:
        runtime: a name of `RUNTIMES`; `auto`: the fastest that is installed, see `fastest.py`; None: the default one.
        device: where it runs: auto, cpu, or another of the runtime's own.
        threads: 0: the runtime chooses, but no more than this process may use.
        precision: what it computes in: fp32, or bf16 where the runtime and the processor can.
        with_defaults: whether inputs that have a default will be given: `auto` takes what can be given them.
        shares_processors: whether others work beside the graph, as threads that decode its next images: its own then
            leave their processors as soon as they wait. Alone, a graph is faster if they do not.
        whole_numbers: whether a graph of int8 is computed in int8, or its rounded values in fp32 where the runtime can.
    """

    runtime: str | None = None
    device: str = AUTO
    threads: int = 0
    precision: str = FP32
    with_defaults: bool = False
    shares_processors: bool = False
    whole_numbers: bool = True

    @property
    def asks_for_any(self) -> bool:
        """Whether the runtime, device, threads or precision are chosen, which only a model in this process can obey."""
        return (self.runtime, self.device, self.threads, self.precision) != (None, AUTO, 0, FP32)


BY_DEFAULT = RunSettings()


class Opener(Protocol):
    """Opens a graph; settings are of this runtime, and of a precision that it has.

    Raises:
        ModelError: the file is missing, damaged, not ours, or nothing that the runtime can run.
        RequestError: the runtime or this machine cannot do what the settings ask for.
    """

    def __call__(self, path: Path, settings: RunSettings) -> "Engine": ...


@dataclass(frozen=True)
class Runtime:
    """A row of the table.

    Attributes:
        opener: dotted path of its `Opener`.
        package: what it is imported as, and installed as.
        extra: of nanocv that brings it; None: nanocv itself does.
        precisions: what it can be asked to compute a graph of fp32 in.
        takes_defaults: whether it can be given inputs that have a default, or has made them constants.
        formats: suffixes of the files that it reads; a file of a suffix that none names is taken for an `.onnx`.
    """

    opener: str
    package: str
    extra: str | None = None
    precisions: tuple[str, ...] = (FP32,)
    takes_defaults: bool = True
    formats: tuple[str, ...] = (ONNX_FILE,)

    @property
    def is_installed(self) -> bool:
        """Whether it can be imported, as far as one can tell without doing so."""
        from importlib.util import find_spec

        return find_spec(self.package) is not None


RUNTIMES = {
    "onnxruntime": Runtime("nanocv_cli.engine.graph:open_by_onnxruntime", "onnxruntime"),
    "openvino": Runtime(
        "nanocv_cli.engine.openvino_graph:open_by_openvino",
        "openvino",
        "openvino",
        (FP32, BF16),
        takes_defaults=False,
        formats=(ONNX_FILE, OPENVINO_FILE),
    ),
}
DEFAULT = "onnxruntime"
CLUSTER = "ray"


def runtime_names() -> tuple[str, ...]:
    """What `--engine` may name for a graph in this process."""
    return (*RUNTIMES, AUTO)


def by_engine(engine: str, device: str, threads: int = 0, precision: str = FP32) -> RunSettings | None:
    """What `--engine` means where a model may also be run as its checkpoint; None: by torch.

    Args:
        engine: torch; onnx, which is the graph run by default; or a name of a runtime, or auto.
        device, threads, precision: of `RunSettings`.

    Raises:
        RequestError: there is no such engine, or torch is asked for another precision.
    """
    if engine == TORCH:
        if precision != FP32:
            raise RequestError("--precision is of graphs, torch runs the checkpoint", f"--engine {AUTO}")
        return None
    if engine != ONNX and engine not in runtime_names():
        raise RequestError(f"unknown engine {engine!r}", f"use {', '.join((TORCH, ONNX, *runtime_names()))}")
    return RunSettings(None if engine == ONNX else engine, device, threads, precision)


def cluster_runtime(engine: str | None) -> str | None:
    """What the workers of a cluster run a graph by, where `--engine` asks for a cluster (`ray`, `ray:openvino`).

    Returns:
        a runtime's name; None: the graph is run in this process.

    Raises:
        RequestError: `auto`, which might be another one on each machine.
    """
    name, _, runtime = (engine or "").partition(":")
    if name != CLUSTER:
        return None
    if runtime == AUTO:
        raise RequestError(f"{engine} may run another engine on each machine", f"name one: {CLUSTER}:{DEFAULT}")
    return runtime or DEFAULT


def readers(path: Path) -> tuple[str, ...]:
    """Names of the runtimes that read a file, by its suffix, in the table's order."""
    own = tuple(name for name, row in RUNTIMES.items() if path.suffix in row.formats)
    return own or readers(path.with_suffix(ONNX_FILE))


def find_runtime(name: str) -> Runtime:
    """The row of a name.

    Raises:
        RequestError: there is none, or it is not installed.
    """
    if name not in RUNTIMES:
        from nanocv_cli.config.nearest import nearest

        known = ", ".join(runtime_names())
        raise RequestError(f"unknown engine {name!r}", nearest(name, runtime_names()) or f"use {known}")
    runtime = RUNTIMES[name]
    if not runtime.is_installed:
        raise RequestError(f"{runtime.package} is not installed", f"pip install 'nanocv[{runtime.extra}]'")
    return runtime


def open_in_process(path: Path, settings: RunSettings, cache: Path) -> "Engine":
    """Opens a graph's file by the runtime that the settings name.

    Args:
        path: an exported graph.
        settings: how to run it.
        cache: folder of what can be made again: there `auto` keeps what it has measured.

    Raises:
        RequestError: there is no such runtime or device, it is not installed, does not read such files, or lacks the
            precision.
        ModelError: the file is missing, damaged or not ours, or the runtime cannot run it.
    """
    from pkgutil import resolve_name

    if settings.runtime == AUTO:
        from nanocv_cli.engine.fastest import with_fastest

        settings = with_fastest(path, settings, cache)
    reading = readers(path)
    name = settings.runtime or reading[0]
    runtime = find_runtime(name)
    if name not in reading:
        raise RequestError(f"{name} does not read {path.name}", f"--engine {reading[0]} does")
    if settings.precision not in runtime.precisions:
        able = [other for other, row in RUNTIMES.items() if settings.precision in row.precisions]
        raise RequestError(
            f"{name} does not compute in {settings.precision}",
            f"--engine {able[0]} does" if able else f"it computes in {', '.join(runtime.precisions)}",
        )
    return cast(Opener, resolve_name(runtime.opener))(path, settings)
