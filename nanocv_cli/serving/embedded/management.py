"""What is answered and checked when a request is about the server and its models, not an inference.

The answers are JSON objects, for both protocols: gRPC's messages are parsed from the same. The metrics tell of the same
counters in Prometheus' text format, under Triton's names.
"""

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from nanocv_cli import __version__
from nanocv_cli.serving.embedded.encoding import expect_bounded
from nanocv_cli.serving.embedded.faults import Fault, Status, shown
from nanocv_cli.serving.embedded.library import Library
from nanocv_cli.serving.embedded.model import LoadedModel
from nanocv_cli.serving.embedded.plan import datatype
from nanocv_cli.serving.embedded.statistics import Duration

EXTENSIONS = [
    "classification",
    "model_repository",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
]
LONGEST_NAME = 255  # bytes; no file system has longer ones
JsonObject = dict[str, Any]
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
DROPPED = ("nanocv_log_lines_dropped", "Number of lines of the server's log that were dropped")
END_OF_METRICS = b"# EOF\n"  # of OpenMetrics


def server_metadata() -> JsonObject:
    """Name, version and extensions."""
    return {"name": "nanocv", "version": __version__, "extensions": EXTENSIONS}


def model_metadata(model: LoadedModel, versions: list[str]) -> JsonObject:
    """KServe's description of a model's tensors."""
    config = model.config
    batch = [-1] if config.max_batch_size else []

    def tensors(entries: Any) -> list[JsonObject]:
        return [
            {"name": entry.name, "datatype": datatype(entry.data_type), "shape": [*batch, *entry.dims]}
            for entry in entries
        ]

    return {
        "name": model.name,
        "versions": versions,
        "platform": config.platform or ("onnxruntime_onnx" if config.backend == "onnxruntime" else config.backend),
        "inputs": tensors(config.input),
        "outputs": tensors(config.output),
    }


def repository_index(library: Library, only_ready: bool) -> list[JsonObject]:
    """One line for each version of each model; a model that is not loaded has a line with its name alone."""
    return [
        {key: value for key, value in vars(line).items() if value}
        for line in library.index()
        if line.state == "READY" or not only_ready
    ]


def statistics(models: list[LoadedModel]) -> JsonObject:
    """Triton's statistics extension."""
    return {"model_stats": [_model_statistics(model) for model in models]}


def message(proto: Any) -> JsonObject:
    """A protobuf message as Triton's HTTP side prints it: numbers as numbers, and fields that were left out too."""
    found: JsonObject = {}
    for field in proto.DESCRIPTOR.fields:
        value = getattr(proto, field.name)
        if field.is_repeated:
            is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
            if is_map:
                entry = field.message_type.fields_by_name["value"]
                found[field.name] = {str(key): _value(entry, value[key]) for key in sorted(value)}
            else:
                found[field.name] = [_value(field, item) for item in value]
        elif not field.has_presence or proto.HasField(field.name):
            found[field.name] = _value(field, value)
    return found


def expect_name(name: str) -> None:
    """Finds out whether a model could have this name.

    Raises:
        Fault: none could.
    """
    if not name.isprintable() or not 0 < len(name.encode()) <= LONGEST_NAME:
        raise Fault(f"'{shown(name)}' cannot be the name of a model")


def load_override(parameters: dict[str, Any]) -> str:
    """The model config among a load request's parameters, empty for none.

    Raises:
        Fault: there is a parameter that this server does not honour, or a config that is not worth parsing.
    """
    for key, value in parameters.items():
        if key != "config" or not isinstance(value, str):
            raise Fault(f"load parameter '{shown(key)}' is not supported; 'config' takes JSON text", Status.UNSUPPORTED)
    config = str(parameters.get("config", ""))
    expect_bounded(config.encode(errors="surrogatepass"))
    return config


def counted_models(library: Library, name: str, version: str) -> list[LoadedModel]:
    """The models whose statistics are asked for: all versions where none is named.

    Raises:
        Fault: there is none.
    """
    if not name:
        return library.loaded()
    versions = [version] if version else library.versions(name)
    if not versions:
        raise Fault(f"requested model '{shown(name)}' is not available")
    return [library.find(name, number) for number in versions]


def exposition(library: Library, dropped: int) -> bytes:
    """All metrics in Prometheus' text format.

    Args:
        library: the models that are counted.
        dropped: lines that the log had no room for.

    It is written as OpenMetrics, whose writer takes names as they are; the other one ends each counter's in _total,
    and Triton's have no such ending. The two formats differ only in the mark at the end.
    """
    registry = CollectorRegistry()
    registry.register(_ModelCollector(library, dropped))
    written: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
    return written.removesuffix(END_OF_METRICS)


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return message(value)
    if field.type == FieldDescriptor.TYPE_ENUM:
        assert field.enum_type is not None
        return field.enum_type.values_by_number[value].name
    return value


def _model_statistics(model: LoadedModel) -> JsonObject:
    counted = model.statistics

    def told(duration: Duration) -> JsonObject:
        return {"count": duration.count, "ns": duration.ns}

    with counted.lock:
        return {
            "name": model.name,
            "version": str(model.version),
            "last_inference": counted.last_inference,
            "inference_count": counted.inference_count,
            "execution_count": counted.execution_count,
            "inference_stats": {
                "success": told(counted.success),
                "fail": told(counted.fail),
                "queue": told(counted.queue),
                "compute_input": told(counted.compute_input),
                "compute_infer": told(counted.compute_infer),
                "compute_output": told(counted.compute_output),
                "cache_hit": told(Duration()),
                "cache_miss": told(Duration()),
            },
            "response_stats": {},
            "batch_stats": [
                {"batch_size": size, **{key: told(duration) for key, duration in vars(batch).items()}}
                for size, batch in sorted(counted.batches.items())
            ],
            "memory_usage": [],
        }


class _ModelCollector(Collector):
    def __init__(self, library: Library, dropped: int) -> None:
        self._library, self._dropped = library, dropped

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
        dropped = Metric(*DROPPED, "counter")
        dropped.add_sample(dropped.name, {}, self._dropped)
        yield dropped


def _counted(model: LoadedModel, attribute: str) -> int:
    """A counter of a model's statistics by its dotted name; durations in microseconds."""
    value: object = model.statistics
    for part in attribute.split("."):
        value = getattr(value, part)
    assert isinstance(value, int)
    return value // 1000 if attribute.endswith(".ns") else value
