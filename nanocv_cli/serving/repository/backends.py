"""The backends of Triton that an entry can be of: what each looks for, what it is told, what runs it here."""

from collections.abc import Callable
from dataclasses import dataclass

from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.config.schema import ServeConfig
from nanocv_cli.engine.runtimes import BF16
from nanocv_cli.errors import ModelError
from nanocv_cli.serving.repository.versions import GRAPH
from nanocv_cli.untrusted import printable

PYTHON_MODEL = "model.py"


@dataclass(frozen=True)
class Backend:
    """A row of the table.

    Attributes:
        name: Triton's.
        runtime: of `engine.runtimes.RUNTIMES` that runs its graphs in nanocv's own server.
        file: that a server looks for in a version's folder if the config names none.
        parameters: those of a config, as text by name, that tell it what the settings say.
    """

    name: str
    runtime: str
    file: str
    parameters: Callable[[ServeConfig], dict[str, str]]


def _for_onnx_runtime(settings: ServeConfig) -> dict[str, str]:
    """The names under which Triton's onnxruntime backend, and our model.py, look for them."""
    return {
        "intra_op_thread_count": str(settings.threads),
        "inter_op_thread_count": str(settings.inter_op_threads),
        "execution_mode": "1" if settings.execution_mode == "parallel" else "0",
    }


def _for_openvino(settings: ServeConfig) -> dict[str, str]:
    """Those of Triton's openvino backend, which compiles once for all instances: its threads are divided by streams."""
    threads = {"INFERENCE_NUM_THREADS": str(settings.threads * settings.instances)} if settings.threads else {}
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": str(settings.instances),
        **threads,
        **({"HINT_BF16": "YES"} if settings.precision == BF16 else {}),
        # Triton fixes the graph's batch at the largest, and refuses smaller ones without it.
        "ENABLE_BATCH_PADDING": "YES",
    }


BACKENDS = {
    row.name: row
    for row in (
        Backend("onnxruntime", "onnxruntime", GRAPH, _for_onnx_runtime),
        Backend("openvino", "openvino", "model.xml", _for_openvino),
        Backend("python", "onnxruntime", PYTHON_MODEL, _for_onnx_runtime),
    )
}
DEFAULT = "onnxruntime"


def backend_of(config: pb.ModelConfig) -> Backend:
    """The row of an entry; ONNX Runtime's where it names none.

    Raises:
        ModelError: it is of another backend.
    """
    name = config.backend or DEFAULT
    if name not in BACKENDS:
        raise ModelError(
            f"{config.name}: the embedded server has no backend '{printable(name)}'", "serve it with --engine triton"
        )
    return BACKENDS[name]
