"""Runs an exported graph by OpenVINO (extra `openvino`), which is often faster than ONNX Runtime on a processor.

It reads `.onnx` files and OpenVINO's own two: an `.xml` that holds graph and model card, and beside it a `.bin` of the
same stem with the weights.
"""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.engine.card import METADATA_KEY, ModelCard
from nanocv_cli.engine.engine import EXPORT_AGAIN, Engine, graph_files, graph_source, rows_at_a_time
from nanocv_cli.engine.runtimes import AUTO, BF16, FP32, OPENVINO_FILE, OPENVINO_WEIGHTS, RunSettings
from nanocv_cli.engine.signature import NUMPY_TYPES, ONNX_TYPES, GraphSignature, TensorSignature
from nanocv_cli.errors import ModelError, RequestError
from nanocv_cli.machine import usable_processors
from nanocv_cli.untrusted import printable, read_regular

# OpenVINO and nncf send usage data by this package, and nothing where it cannot be imported.
cast(dict[str, Any], sys.modules).setdefault("openvino_telemetry", None)

import openvino  # noqa: E402

from nanocv_cli.engine.openvino_shapes import GraphBySize, Requests, keep_pixels_together  # noqa: E402

CPU = "CPU"
LATENCY, THROUGHPUT = "LATENCY", "THROUGHPUT"  # of OpenVINO's PERFORMANCE_HINT
HINTS = {FP32: "f32", BF16: "bf16"}
TENSOR_TYPES = {np.dtype(NUMPY_TYPES[name]): told for name, told in ONNX_TYPES.items()}
# What OpenVINO's messages say of operators that it cannot run, after all that it says of its own source files.
SUMMARY = "Summary:"
WEIGHTS_HASH = "nanocv.weights"  # of the `.bin` that an `.xml` was written with
LARGEST_XML, LARGEST_WEIGHTS = 64 << 20, 4 << 30  # bytes
# Where OpenVINO keeps the metadata of an ONNX graph, in its own files too.
METADATA = "framework"


@dataclass(frozen=True)
class Compiled:
    """A graph compiled for this machine's processor.

    Attributes:
        graph: it; `Requests` run it side by side, each for one thread at a time.
        signature: what it takes and gives.
        metadata: of the file, as far as it is nanocv's.
    """

    graph: GraphBySize
    signature: GraphSignature
    metadata: Mapping[str, str]


def compile_graph(
    source: str | bytes | tuple[bytes, bytes],
    origin: str,
    hint: str,
    threads: int = 0,
    precision: str = FP32,
    further: Mapping[str, Any] | None = None,
    batch_sizes: Sequence[int] | None = (),
) -> Compiled:
    """Compiles a graph; all of nanocv comes by here.

    Args:
        source: an ONNX file's path or content, or the contents of OpenVINO's two files.
        origin: what messages call it.
        hint: LATENCY: one batch at a time, as fast as can be; THROUGHPUT: several at once.
        threads: of all its streams together; 0: as many as this process may use.
        precision: fp32, or bf16 where the processor computes in it. What was exported in bf16 is computed in it where
            the processor can, else in fp32.
        further: OpenVINO's own properties by name.
        batch_sizes: to compile for now; for others it is when they are asked for. None: inputs have no batch.

    Raises:
        ModelError: the content is damaged, of two exports, or has operators that OpenVINO lacks.
        RequestError: the processor does not compute in that precision.
    """
    if precision == BF16 and not computes_in_bf16():
        raise RequestError("this processor does not compute in bf16", "--precision fp32")
    settings = {
        "PERFORMANCE_HINT": hint,
        "INFERENCE_NUM_THREADS": threads or usable_processors(),
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        # Pinned threads of two processes would share one processor.
        "ENABLE_CPU_PINNING": False,
        **(further or {}),
    }
    try:
        model = core().read_model(*source) if isinstance(source, tuple) else core().read_model(source)
        told = {key: _told_by(model, key) for key in (METADATA_KEY, WEIGHTS_HASH)}
        if isinstance(source, tuple) and told[WEIGHTS_HASH] not in (None, weights_hash(source[1])):
            raise ModelError(
                f"{origin} was written with another {OPENVINO_WEIGHTS}", "nanocv export openvino writes both"
            )
        metadata = {METADATA_KEY: card} if (card := told[METADATA_KEY]) is not None else {}
        if _exported_in(metadata) == BF16 and computes_in_bf16():
            settings["INFERENCE_PRECISION_HINT"] = HINTS[BF16]
        signature = GraphSignature(tuple(map(_told, model.inputs)), tuple(map(_told, model.outputs)))
        keep_pixels_together(model)
        graph = GraphBySize(model, lambda sized: core().compile_model(sized, CPU, settings), batch_sizes)
        return Compiled(graph, signature, metadata)
    except (RuntimeError, KeyError, ValueError) as error:
        way_out = "--engine onnxruntime may run it; a graph of an earlier nanocv can be exported again"
        if isinstance(source, tuple):
            way_out = "nanocv export openvino writes both files again"
        raise ModelError(f"{origin} cannot be loaded by OpenVINO: {reason(error)}", way_out) from error


class OpenVinoGraph(Engine):
    """A graph compiled for this machine's processor; see `Engine`.

    Inputs with a default are constants of the compiled graph: they cannot be given. A run that has begun goes on to its
    end, also after Ctrl-C.

    Args:
        path: an `.onnx` or `.xml` file with a model card.
        threads: 0: as many as this process may use.
        precision: fp32, or bf16 where the processor computes in it.

    Raises:
        ModelError: the file is missing, damaged or not ours, or has operators that OpenVINO lacks.
        RequestError: the processor does not compute in that precision.
    """

    def __init__(self, path: Path, threads: int = 0, precision: str = FP32) -> None:
        source = _pair(path) if path.suffix == OPENVINO_FILE else graph_source(path)
        compiled = compile_graph(source, str(path), LATENCY, threads, precision, {"NUM_STREAMS": 1})
        card = ModelCard.from_metadata(dict(compiled.metadata), str(path))
        signature = compiled.signature
        self._requests = Requests(compiled.graph)
        super().__init__(str(path), card, signature, rows_at_a_time(signature), "openvino", "cpu")
        self.path = path

    @property
    def has_settings(self) -> bool:
        """None: see the class."""
        return False

    def _run(self, graph_inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            return self._requests.answer(graph_inputs)
        except RuntimeError as error:
            raise ModelError(f"{self.path} failed in OpenVINO: {reason(error)}", EXPORT_AGAIN) from error


def open_by_openvino(path: Path, settings: RunSettings) -> Engine:
    """See `runtimes.Opener`; the device is the processor."""
    if settings.device not in (AUTO, "cpu"):
        raise RequestError(f"nanocv runs OpenVINO on the processor, not on {settings.device!r}", "--device cpu")
    return OpenVinoGraph(path, settings.threads, settings.precision)


def computes_in_bf16() -> bool:
    """Whether this processor does, by AVX512-BF16, AMX or the like; elsewhere it would be emulated, and slower."""
    return "BF16" in core().get_property(CPU, "OPTIMIZATION_CAPABILITIES")


def weights_hash(weights: bytes) -> str:
    """By which an `.xml` knows its `.bin`."""
    return hashlib.sha256(weights).hexdigest()


def _pair(path: Path) -> tuple[bytes, bytes]:
    """The content of an `.xml` file and of the `.bin` beside it.

    Raises:
        ModelError: a file is missing, is too large, or cannot be read.
    """
    beside, _ = graph_files(path)
    try:
        return read_regular(path, LARGEST_XML), read_regular(beside, LARGEST_WEIGHTS)
    except FileNotFoundError as error:
        raise ModelError(f"{path} needs {beside.name} beside it: one of them is missing", "copy both files") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}", "nanocv export openvino writes both") from error


@cache
def core() -> Any:
    """OpenVINO's own object that reads and compiles models; one is enough."""
    return openvino.Core()


def _exported_in(metadata: Mapping[str, str]) -> str:
    """The precision that a graph's card tells; fp32 where it has no card, as graphs of others that are served."""
    try:
        return ModelCard.from_metadata(dict(metadata), "").precision
    except ModelError:
        return FP32


def _told_by(model: Any, key: str) -> str | None:
    """A text that a model carries; None where it has none of that name."""
    path = [METADATA, key]
    return str(model.get_rt_info(path).astype(str)) if model.has_rt_info(path) else None


def _told(port: Any) -> TensorSignature:
    """What OpenVINO says of an input or output, in ONNX Runtime's words."""
    shape = tuple(size.get_length() if size.is_static else None for size in port.partial_shape)
    return TensorSignature(port.get_any_name(), TENSOR_TYPES[port.element_type.to_dtype()], shape)


def reason(error: Exception) -> str:
    """What went wrong, without the source files and checks of OpenVINO's own that its messages begin with."""
    head, _, summary = str(error).partition(SUMMARY)
    lines = [line.strip(" -") for line in (summary or head).splitlines() if line.strip(" -")]
    return printable("; ".join(lines) if summary else lines[-1] if lines else type(error).__name__)
