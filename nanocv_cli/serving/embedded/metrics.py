"""Prometheus metrics under Triton's names."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from nanocv_cli.serving.embedded.library import Library

if TYPE_CHECKING:
    from prometheus_client.core import Metric

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


class _ModelCollector(Collector):
    def __init__(self, library: Library) -> None:
        self._library = library

    def collect(self) -> "Iterator[Metric]":
        models = [(model, [model.name, str(model.version)]) for model in self._library.loaded()]
        for name, (text, attribute) in COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=["model", "version"])
            for model, labels in models:
                value: object = model.statistics
                for part in attribute.split("."):
                    value = getattr(value, part)
                assert isinstance(value, int)
                counter.add_metric(labels, value // 1000 if attribute.endswith(".ns") else value)
            yield counter
        failures = CounterMetricFamily(
            "nv_inference_request_failure",
            "Number of failed inference requests, all batch sizes",
            labels=["model", "version", "reason"],
        )
        pending = GaugeMetricFamily(
            "nv_inference_pending_request_count",
            "Instantaneous number of pending requests awaiting execution per-model.",
            labels=["model", "version"],
        )
        for model, labels in models:
            for reason, count in model.statistics.failures.items():
                failures.add_metric([*labels, reason], count)
            pending.add_metric(labels, model.waiting)
        yield failures
        yield pending


def exposition(library: Library) -> bytes:
    """All metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_ModelCollector(library))
    # The library follows OpenMetrics and ends every counter in _total; Triton's names have no such ending.
    lines = generate_latest(registry).decode().splitlines(keepends=True)
    return "".join(line.replace("_total{", "{").replace("_total ", " ") for line in lines).encode()
