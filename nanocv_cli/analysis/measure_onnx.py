"""Runs an ONNX graph by ONNX Runtime and times it: the whole as it is deployed, and every node by itself."""

import json
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from nanocv_cli.analysis.layer import Model
from nanocv_cli.analysis.measured import WARM_RUNS, Measured, random_values, seconds_of
from nanocv_cli.engine.sessions import new_session, session_options, stoppable
from nanocv_cli.errors import ModelError, NanocvError
from nanocv_cli.untrusted import first_line

LAYER_ROUNDS = 15
EVENT = "_kernel_time"
TYPES = {
    "tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64,
    "tensor(int32)": np.int32, "tensor(double)": np.float64, "tensor(bool)": np.bool_, "tensor(int8)": np.int8,
}  # fmt: skip


def measure_onnx(path: Path, model: Model, shapes: dict[str, tuple[int, ...]], batch: int) -> Measured:
    """Times a graph on the CPU on random images.

    Args:
        path: the graph.
        model: its layers.
        shapes: of its inputs for one image.
        batch: images, for inputs whose first size is 1 in `shapes` and open in the graph.

    Raises:
        ModelError: ONNX Runtime cannot load it, or it fails.
    """
    try:
        session = new_session(str(path), session_options())
        running = stoppable()
        graph_inputs = {entry.name: _filled(entry, shapes[entry.name], batch) for entry in session.get_inputs()}
        whole = seconds_of(lambda: session.run(None, graph_inputs, running))
        with tempfile.TemporaryDirectory() as folder:
            options = session_options()
            # Fused nodes would have no time of their own.
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            profiled = new_session(str(path), options)
            for _ in range(WARM_RUNS + LAYER_ROUNDS):
                profiled.run(None, graph_inputs, running)
            events = json.loads(Path(profiled.end_profiling()).read_text(encoding="utf-8"))
    except NanocvError:
        raise
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise ModelError(f"{path} does not run: {first_line(error)}", "try another --batch-sizes or --shape") from error
    times: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(EVENT):
            times[event["name"].removesuffix(EVENT)].append(event["dur"] / 1e6)
    layers = tuple(
        statistics.median(times[layer.name][WARM_RUNS:]) if len(times.get(layer.name, ())) > WARM_RUNS else None
        for layer in model.layers
    )
    title = f"ONNX Runtime {onnxruntime.__version__}, CPU, batch {batch} (layers without fusion)"
    return Measured(title, statistics.median(whole), layers, len(whole))


def _filled(entry: Any, shape: tuple[int, ...], batch: int) -> NDArray[Any]:
    """Random values; the first size becomes the batch where the graph leaves it open."""
    is_open = bool(entry.shape) and not isinstance(entry.shape[0], int)
    sizes = (batch, *shape[1:]) if is_open else shape
    dtype = TYPES.get(entry.type)
    if dtype is None:
        raise ValueError(f"its input {entry.name} is {entry.type}")
    return random_values(entry.name, dtype, sizes, batch)
