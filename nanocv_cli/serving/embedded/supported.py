"""Which fields of a `ModelConfig` this server honours; every other one is refused, none is ignored in silence."""

from typing import Any

from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.engine.card import METADATA_KEY
from nanocv_cli.errors import ModelError
from nanocv_cli.serving.embedded.bounds import PARAMETERS
from nanocv_cli.untrusted import printable

ANY: dict[str, Any] = {}
POLICY = {
    "timeout_action": ANY,
    "default_timeout_microseconds": ANY,
    "allow_timeout_override": ANY,
    "max_queue_size": ANY,
}
# Nested names lead to nested tables; ANY takes what stands below as it is.
HONOURED: dict[str, Any] = {
    "name": ANY,
    "platform": ANY,
    "backend": ANY,
    "version_policy": ANY,
    "max_batch_size": ANY,
    "input": {"name": ANY, "data_type": ANY, "dims": ANY, "reshape": ANY},
    "output": {"name": ANY, "data_type": ANY, "dims": ANY, "reshape": ANY, "label_filename": ANY},
    # Pinned memory speeds up copies to a GPU and changes no answer.
    "optimization": {"graph": {"level": ANY}, "input_pinned_memory": ANY, "output_pinned_memory": ANY},
    "dynamic_batching": {
        "preferred_batch_size": ANY,
        "max_queue_delay_microseconds": ANY,
        "preserve_ordering": ANY,
        "default_queue_policy": POLICY,
    },
    "instance_group": {"name": ANY, "kind": ANY, "count": ANY, "gpus": ANY},
    "default_model_filename": ANY,
    "parameters": ANY,
    "model_warmup": {
        "name": ANY,
        "batch_size": ANY,
        "count": ANY,
        "inputs": {"data_type": ANY, "dims": ANY, "zero_data": ANY, "random_data": ANY},
    },
}
USE_TRITON = "take it out, or serve this entry with --engine triton"


def refuse_unsupported(config: pb.ModelConfig) -> None:
    """Checks that this server does all that an entry asks for.

    Raises:
        ModelError: it names a field that this server does not honour.
    """
    _walk(config, HONOURED, config.name, "")
    for key in sorted(set(config.parameters) - {*PARAMETERS, METADATA_KEY}):
        raise _refusal(config.name, f'parameters["{printable(key)}"]')
    ordered = config.dynamic_batching.preserve_ordering
    if ordered and sum(max(1, group.count) * max(1, len(group.gpus)) for group in config.instance_group) > 1:
        raise _refusal(config.name, "dynamic_batching.preserve_ordering with several instances")
    if config.platform not in ("", "onnxruntime_onnx"):
        raise _refusal(config.name, f'platform: "{printable(config.platform)}"')
    kinds = pb.ModelInstanceGroup
    for group in config.instance_group:
        if group.kind == kinds.KIND_MODEL:
            raise _refusal(config.name, "instance_group kind KIND_MODEL")


def _walk(message: Any, honoured: dict[str, Any], model: str, prefix: str) -> None:
    for descriptor, value in message.ListFields():
        place = f"{prefix}{descriptor.name}"
        if descriptor.name not in honoured:
            raise _refusal(model, place)
        below = honoured[descriptor.name]
        if descriptor.enum_type is not None and value not in descriptor.enum_type.values_by_number:
            raise _refusal(model, f"{place}: {value}")  # protobuf takes any number for a name
        if not below:
            continue
        # A map shows its values, a repeated field its items.
        is_map = descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry
        items = value.values() if is_map else value if descriptor.is_repeated else [value]
        for item in items:
            _walk(item, below, model, f"{place}.")


def _refusal(model: str, what: str) -> ModelError:
    return ModelError(f"{model}: the embedded server does not support {what}", USE_TRITON)
