"""What the server says of itself and its models: JSON-ready documents, from which gRPC's messages are parsed too."""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from nanocv_cli import __version__
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
Document = dict[str, Any]


def server_metadata() -> Document:
    """Name, version and extensions."""
    return {"name": "nanocv", "version": __version__, "extensions": EXTENSIONS}


def model_metadata(model: LoadedModel, versions: list[str]) -> Document:
    """KServe's description of a model's tensors."""
    config = model.config
    batch = [-1] if config.max_batch_size else []

    def tensors(entries: Any) -> list[Document]:
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


def repository_index(library: Library, only_ready: bool) -> list[Document]:
    """One line for each version of each model; a model that is not loaded has a line with its name alone."""
    return [
        {key: value for key, value in vars(line).items() if value}
        for line in library.index()
        if line.state == "READY" or not only_ready
    ]


def statistics(models: list[LoadedModel]) -> Document:
    """Triton's statistics extension."""
    return {"model_stats": [_model_statistics(model) for model in models]}


def message(proto: Any) -> Document:
    """A protobuf message as Triton's HTTP side prints it: numbers as numbers, and fields that were left out too."""
    document: Document = {}
    for field in proto.DESCRIPTOR.fields:
        value = getattr(proto, field.name)
        if field.is_repeated:
            is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
            if is_map:
                entry = field.message_type.fields_by_name["value"]
                document[field.name] = {str(key): _value(entry, value[key]) for key in sorted(value)}
            else:
                document[field.name] = [_value(field, item) for item in value]
        elif not field.has_presence or proto.HasField(field.name):
            document[field.name] = _value(field, value)
    return document


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return message(value)
    if field.type == FieldDescriptor.TYPE_ENUM:
        assert field.enum_type is not None
        return field.enum_type.values_by_number[value].name
    return value


def _model_statistics(model: LoadedModel) -> Document:
    counted = model.statistics

    def told(duration: Duration) -> Document:
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
