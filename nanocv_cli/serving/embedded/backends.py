"""What the embedded server honours of each backend: parameters, platforms, kinds of instances; and what lays it out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.engine.card import METADATA_KEY
from nanocv_cli.errors import ModelError
from nanocv_cli.serving.embedded.limits import PROCESSORS, ModelLimits
from nanocv_cli.serving.repository.backends import backend_of
from nanocv_cli.serving.repository.encoded_images import BOXES
from nanocv_cli.serving.repository.model_config import SETTINGS_KEY
from nanocv_cli.untrusted import printable

MEND = "mend config.pbtxt"
MORE_THREADS = " (serve run --max-threads)"
Values = Mapping[str, int | str]


@dataclass(frozen=True)
class Parameter:
    """What the text of one of a config's `parameters` may be.

    Attributes:
        highest: number, from 0 on; None: as many as a copy may have threads.
        words: that it may be as well, in upper or lower case.
        is_number: whether it may be a number at all.
    """

    highest: int | None = 1
    words: tuple[str, ...] = ()
    is_number: bool = True


SWITCH, THREADS, YES = Parameter(1), Parameter(None), Parameter(words=("YES",), is_number=False)


@dataclass(frozen=True)
class Served:
    """A row of the table.

    Attributes:
        layer: dotted path of its `session.Layer`.
        parameters: those that are honoured, by name.
        platforms: that a config may name; an empty one is none.
        has_gpus: whether its copies can run on a GPU.
        has_levels: whether `optimization.graph.level` is honoured.
        threads: how many all copies of a version take, by the values of its parameters and the number of copies.
    """

    layer: str
    parameters: Mapping[str, Parameter]
    platforms: tuple[str, ...]
    has_gpus: bool
    has_levels: bool
    threads: Callable[[Values, int], int]


def _threads_of_sessions(values: Values, copies: int) -> int:
    """Each of ONNX Runtime's sessions has its own; they divide the processors where nothing is said."""
    share = max(1, PROCESSORS // copies)
    threads = int(values.get("intra_op_thread_count", 0)) or share
    if values.get("execution_mode"):
        threads += int(values.get("inter_op_thread_count", 0)) or share
    return copies * threads


def _threads_of_streams(values: Values, copies: int) -> int:
    """All streams of OpenVINO's compiled graph share them."""
    return int(values.get("INFERENCE_NUM_THREADS", 0)) or PROCESSORS


_ONNX_RUNTIME = Served(
    "nanocv_cli.serving.embedded.onnxruntime_copies:lay_out",
    {
        "intra_op_thread_count": THREADS,
        "inter_op_thread_count": THREADS,
        "execution_mode": SWITCH,
        "enable_mem_arena": SWITCH,
        "enable_mem_pattern": SWITCH,
    },
    ("", "onnxruntime_onnx"),
    has_gpus=True,
    has_levels=True,
    threads=_threads_of_sessions,
)
SERVED = {
    "onnxruntime": _ONNX_RUNTIME,
    "python": _ONNX_RUNTIME,
    "openvino": Served(
        "nanocv_cli.serving.embedded.openvino_copies:lay_out",
        {
            "PERFORMANCE_HINT": Parameter(words=("LATENCY", "THROUGHPUT"), is_number=False),
            "NUM_STREAMS": Parameter(None, ("AUTO", "NUMA")),
            "INFERENCE_NUM_THREADS": THREADS,
            "COMPILATION_NUM_THREADS": THREADS,
            "HINT_BF16": YES,
            # Both are about Triton's batches of one fixed size; here a batch is run as large as it is.
            "ENABLE_BATCH_PADDING": YES,
            "SKIP_OV_DYNAMIC_BATCHSIZE": YES,
        },
        ("",),
        has_gpus=False,
        has_levels=False,
        threads=_threads_of_streams,
    ),
}


def served(config: pb.ModelConfig) -> Served:
    """The row of an entry.

    Raises:
        ModelError: it is of a backend that the server has not.
    """
    return SERVED[backend_of(config).name]


def parameters(config: pb.ModelConfig, limits: ModelLimits) -> dict[str, int | str]:
    """The values that stand as text in a config's parameters: numbers, and words in upper case.

    Raises:
        ModelError: one is none that it may be, or out of bounds.
    """
    values: dict[str, int | str] = {}
    known = served(config).parameters
    for key, value in config.parameters.items():
        if key in (METADATA_KEY, SETTINGS_KEY, BOXES):
            continue
        text, may = value.string_value, known[key]
        highest, option = (limits.threads, MORE_THREADS) if may.highest is None else (may.highest, "")
        if text.upper() in may.words:
            values[key] = text.upper()
        elif may.is_number and text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= highest:
            values[key] = int(text)
        else:
            numbers = [f"a number from 0 to {highest}{option}"] if may.is_number else []
            raise ModelError(
                f'{config.name}: parameters["{key}"] is "{printable(text, 40)}", '
                f"not {' or '.join([*numbers, *may.words])}",
                MEND,
            )
    return values
