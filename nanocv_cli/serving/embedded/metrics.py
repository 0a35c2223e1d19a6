"""Prometheus metrics under Triton's names."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from nanocv_cli.serving.embedded.library import Library

if TYPE_CHECKING:
    from nanocv_cli.serving.embedded.model import LoadedModel

COUNTERS = {
    "nv_inference_request_success": ("Number of successful inference requests, all batch sizes", "success.count"),
    "nv_inference_count": ("Number of inferences performed (does not include cached requests)", "inference_count"),
    "nv_inference_exec_count": (
        "Number of model executions performed (does not include cached requests)",
        "execution_count",
    ),
    "nv_inference_request_duration_us": (
        "Cumulative inference request duration in microseconds (includes cached requests)",
        "success.ns",
    ),
    "nv_inference_queue_duration_us": (
        "Cumulative inference queuing duration in microseconds (includes cached requests)",
        "queue.ns",
    ),
    "nv_inference_compute_input_duration_us": (
        "Cumulative compute input duration in microseconds (does not include cached requests)",
        "compute_input.ns",
    ),
    "nv_inference_compute_infer_duration_us": (
        "Cumulative compute inference duration in microseconds (does not include cached requests)",
        "compute_infer.ns",
    ),
    "nv_inference_compute_output_duration_us": (
        "Cumulative inference compute output duration in microseconds (does not include cached requests)",
        "compute_output.ns",
    ),
}


FAILURES = ("nv_inference_request_failure", "Number of failed inference requests, all batch sizes")
PENDING = (
    "nv_inference_pending_request_count",
    "Instantaneous number of pending requests awaiting execution per-model.",
)
END = b"# EOF\n"  # of OpenMetrics


class _ModelCollector(Collector):
    def __init__(self, library: Library) -> None:
        self._library = library

    def collect(self) -> Iterator[Metric]:
        models = [(model, {"model": model.name, "version": str(model.version)}) for model in self._library.loaded()]
        for name, (text, attribute) in COUNTERS.items():
            counter = Metric(name, text, "counter")
            for model, labels in models:
                counter.add_sample(name, labels, _counted(model, attribute))
            yield counter
        failures, pending = Metric(*FAILURES, "counter"), Metric(*PENDING, "gauge")
        for model, labels in models:
            for reason, count in model.statistics.failures.items():
                failures.add_sample(failures.name, {**labels, "reason": reason}, count)
            pending.add_sample(pending.name, labels, model.waiting)
        yield failures
        yield pending


def exposition(library: Library) -> bytes:
    """All metrics in Prometheus' text format.

    It is written as OpenMetrics, whose writer takes names as they are; the other one ends each counter's in _total,
    and Triton's have no such ending. The two formats differ only in the mark at the end.
    """
    registry = CollectorRegistry()
    registry.register(_ModelCollector(library))
    written: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
    return written.removesuffix(END)


def _counted(model: "LoadedModel", attribute: str) -> int:
    """A counter of a model's statistics by its dotted name; durations in microseconds."""
    value: object = model.statistics
    for part in attribute.split("."):
        value = getattr(value, part)
    assert isinstance(value, int)
    return value // 1000 if attribute.endswith(".ns") else value
