"""Copies of a graph by OpenVINO: requests of one compiled graph, which share weights and divide the processors.

It is compiled for single examples and for the largest batch before it is ready, for sizes between them when they have
been asked for often enough.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.engine.openvino_graph import LATENCY, THROUGHPUT, Compiled, compile_graph, reason
from nanocv_cli.engine.openvino_shapes import Requests
from nanocv_cli.engine.runtimes import BF16, FP32
from nanocv_cli.serving.embedded.encoding import Array
from nanocv_cli.serving.embedded.session import Watched
from nanocv_cli.serving.embedded.watchdog import nothing


class OpenVinoCopy:
    """See `session.Copy`.

    Args:
        compiled: the graph.
    """

    runtime = "openvino"

    def __init__(self, compiled: Compiled) -> None:
        self.compiled, self.signature = compiled, compiled.signature
        self._requests = Requests(compiled.graph)

    def run(self, names: Sequence[str], feeds: Mapping[str, Array], watched: Watched) -> list[Array]:
        """See `session.Copy`; it can be stopped between two operators, but not within a loop."""

        def run_watched(request: Any, graph_inputs: dict[str, Array]) -> None:
            with watched(request.cancel):
                # What `infer` runs cannot be cancelled.
                request.start_async(graph_inputs, share_inputs=True)
                request.wait()

        answers = self._requests.answer(feeds, run_watched)
        return [answers[name] for name in names]

    def reason(self, error: Exception) -> str:
        """See `session.Copy`."""
        return reason(error)


def lay_out(
    content: bytes, config: pb.ModelConfig, values: Mapping[str, int | str], watched: Watched
) -> list[OpenVinoCopy]:
    """See `session.Layer`; Triton's backend too compiles once for all instances."""
    count = sum(max(1, group.count) for group in config.instance_group) or 1
    hint = str(values.get("PERFORMANCE_HINT", LATENCY))
    further: dict[str, Any] = {}
    if "NUM_STREAMS" in values or hint != THROUGHPUT:
        further["NUM_STREAMS"] = values.get("NUM_STREAMS") or count
    if "COMPILATION_NUM_THREADS" in values:
        further["COMPILATION_NUM_THREADS"] = values["COMPILATION_NUM_THREADS"]
    with watched(nothing):  # compiling cannot be stopped; the library waits for it no longer than it may take
        compiled = compile_graph(
            content,
            "the graph",
            hint,
            int(values.get("INFERENCE_NUM_THREADS", 0)),
            BF16 if "HINT_BF16" in values else FP32,
            further,
            sorted({1, config.max_batch_size}) if config.max_batch_size else None,
        )
    return [OpenVinoCopy(compiled) for _ in range(count)]
