"""Runs an ONNX graph by OpenVINO and times it: the whole, and what OpenVINO makes of its nodes, fused as deployed."""

import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from nanocv_cli.analysis.layer import Model
from nanocv_cli.analysis.measured import WARM_RUNS, Measured, random_values, seconds_of
from nanocv_cli.engine.openvino_graph import LATENCY, compile_graph, reason
from nanocv_cli.engine.openvino_shapes import Requests
from nanocv_cli.engine.signature import NUMPY_TYPES, ONNX_TYPES
from nanocv_cli.errors import ModelError

MADE_OF = "originalLayersNames"  # what OpenVINO calls the nodes that one of its own came from
NUMPY_BY_TYPE = {told: np.dtype(NUMPY_TYPES[name]).type for name, told in ONNX_TYPES.items()}


def measure_openvino(path: Path, model: Model, shapes: dict[str, tuple[int, ...]], batch: int) -> Measured:
    """Times a graph on the processor on random images.

    Args:
        path: the graph.
        model: its layers.
        shapes: of its inputs for one image.
        batch: images, for inputs whose first size is open in the graph.

    Raises:
        ModelError: OpenVINO cannot load it, or it fails.
    """
    compiled = compile_graph(str(path), str(path), LATENCY, further={"NUM_STREAMS": 1})
    profiled = compile_graph(str(path), str(path), LATENCY, further={"NUM_STREAMS": 1, "PERF_COUNT": True})
    try:
        graph_inputs = {
            entry.name: random_values(
                entry.name,
                NUMPY_BY_TYPE[entry.type],
                (batch if entry.shape[:1] == (None,) else shapes[entry.name][0], *shapes[entry.name][1:])
                if shapes[entry.name]
                else (),
                batch,
            )
            for entry in compiled.signature.inputs
        }
        requests, rounds = Requests(compiled.graph), _Rounds()
        whole = seconds_of(lambda: requests.answer(graph_inputs))
        counting = Requests(profiled.graph)
        seconds_of(lambda: counting.answer(graph_inputs, rounds.run))
        _, executed = profiled.graph.compiled_for(batch)
        times, made_of = rounds.medians(), _made_of(executed.get_runtime_model())
    except (RuntimeError, ValueError, KeyError) as error:
        raise ModelError(
            f"{path} does not run by OpenVINO: {reason(error)}", "try another --batch-sizes or --shape"
        ) from error
    layers, fused, rest = _attributed(model, times, made_of)
    title = f"OpenVINO {openvino.__version__.partition('-')[0]}, CPU, batch {batch} (layers as it fuses them)"
    return Measured(title, statistics.median(whole), layers, len(whole), fused, rest)


class _Rounds:
    """Runs a request, and notes how long each of its nodes took."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def run(self, request: Any, graph_inputs: dict[str, Any]) -> None:
        request.infer(graph_inputs, share_inputs=True, share_outputs=True)
        for node in request.get_profiling_info():
            self._seconds[node.node_name].append(node.real_time.total_seconds())

    def medians(self) -> dict[str, float]:
        """By node; of those that run at all."""
        return {name: took for name, times in self._seconds.items() if (took := statistics.median(times[WARM_RUNS:]))}


def _made_of(executed: Any) -> dict[str, list[str]]:
    """By node of OpenVINO's, the names of the graph's nodes that it came from."""
    found = {}
    for node in executed.get_ordered_ops():
        told = node.get_rt_info()
        names = str(told[MADE_OF].astype(str)) if MADE_OF in told else ""
        found[node.get_friendly_name()] = [name for name in names.split(",") if name]
    return found


def _attributed(
    model: Model, times: dict[str, float], made_of: dict[str, list[str]]
) -> tuple[tuple[float | None, ...], tuple[int | None, ...], float]:
    """Each layer's time, which it is fused into, and the time of nodes that came from none.

    A node's time is that of the layer with the most arithmetic among those that it came from.
    """
    places = {layer.name: number for number, layer in enumerate(model.layers)}
    layers: list[float | None] = [None] * len(places)
    fused: list[int | None] = [None] * len(places)
    rest = 0.0
    for name, took in times.items():
        # A bias that is added apart leaves the convolution's name with an end to it.
        origins = {origin.partition("/")[0] for origin in made_of.get(name, [])} | {*made_of.get(name, [])}
        own = [places[origin] for origin in origins if origin in places]
        if not own:
            rest += took
            continue
        leading = max(own, key=lambda number: (model.layers[number].operations(), -number))
        layers[leading] = (layers[leading] or 0.0) + took
        for number in own:
            if number != leading:
                fused[number] = leading
    return tuple(layers), tuple(fused), rest
