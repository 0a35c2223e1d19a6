"""What of a `ModelConfig` this server honours: which fields, and how large their numbers may be.

Every other field is refused, none is ignored in silence. A config comes from a file or, as an override, from a client.
None of its numbers may start threads, take memory or wait without end, so every number that this server honours has its
line here; what is beyond is refused, never cut.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.engine.card import METADATA_KEY
from nanocv_cli.engine.signature import NUMPY_TYPES
from nanocv_cli.errors import ModelError
from nanocv_cli.serving.embedded.backends import MEND, SERVED, parameters, served
from nanocv_cli.serving.embedded.entry_files import LARGEST_WARM_UP
from nanocv_cli.serving.embedded.limits import PROCESSORS, ModelLimits
from nanocv_cli.serving.embedded.plan import datatype
from nanocv_cli.serving.repository.encoded_images import BOXES
from nanocv_cli.serving.repository.model_config import SETTINGS_KEY
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
        "inputs": {"data_type": ANY, "dims": ANY, "zero_data": ANY, "random_data": ANY, "input_data_file": ANY},
    },
}
USE_TRITON = "take it out, or serve this entry with --engine triton"
LARGEST_SIZE = (1 << 31) - 1  # of a dimension; and no message could carry more elements
LARGEST_BATCH = 4096  # as in `ServeConfig`, like all limits of time and queue below
LONGEST_DELAY_US = 60_000_000
LONGEST_TIMEOUT_US = 3_600_000_000
LONGEST_QUEUE = 1_000_000
MOST_THREADS = max(256, 32 * PROCESSORS)  # of all copies of a model, or two for each copy if more are allowed

# Items of a repeated field; those that are not here have no numbers.
LENGTHS = {
    "input": 256,
    "input.dims": 32,
    "input.reshape.shape": 32,
    "output": 256,
    "output.dims": 32,
    "output.reshape.shape": 32,
    "dynamic_batching.preferred_batch_size": LARGEST_BATCH,
    "instance_group": 64,
    "instance_group.gpus": 64,
    "version_policy.specific.versions": 1000,
    "model_warmup": 64,
    "model_warmup.inputs": 256,
    "model_warmup.inputs.dims": 32,
    "parameters": max(len(row.parameters) for row in SERVED.values()) + 3,  # and the card, settings, names of boxes
}
COUNT = "instance_group.count"
MORE_COPIES = " (serve run --max-copies)"  # where more can be allowed


def refuse_unsupported(config: pb.ModelConfig) -> None:
    """Checks that this server does all that an entry asks for.

    Raises:
        ModelError: it names a field that this server does not honour.
    """
    _check_fields(config, HONOURED, config.name, "")
    row = served(config)
    for key in sorted(set(config.parameters) - {*row.parameters, METADATA_KEY, SETTINGS_KEY, BOXES}):
        raise _refusal(config.name, f'parameters["{printable(key)}"]')
    ordered = config.dynamic_batching.preserve_ordering
    if ordered and sum(max(1, group.count) * max(1, len(group.gpus)) for group in config.instance_group) > 1:
        raise _refusal(config.name, "dynamic_batching.preserve_ordering with several instances")
    if config.platform not in row.platforms:
        raise _refusal(config.name, f'platform: "{printable(config.platform)}"')
    if config.optimization.HasField("graph") and not row.has_levels:
        raise _refusal(config.name, f"optimization.graph of backend {config.backend}")
    kinds = pb.ModelInstanceGroup
    for group in config.instance_group:
        if group.kind == kinds.KIND_MODEL:
            raise _refusal(config.name, "instance_group kind KIND_MODEL")
        if group.kind == kinds.KIND_CPU and group.gpus:
            raise ModelError(f"{config.name}: instance_group of KIND_CPU names gpus", "take them out of config.pbtxt")
        if not row.has_gpus and (group.kind == kinds.KIND_GPU or group.gpus):
            raise _refusal(config.name, f"instance_group on a GPU of backend {config.backend}")


def number_bounds(limits: ModelLimits) -> dict[str, tuple[int, int]]:
    """Lowest and highest value of every number, by its field."""
    return {
        "max_batch_size": (0, LARGEST_BATCH),
        "input.dims": (-1, LARGEST_SIZE),
        "input.reshape.shape": (-1, LARGEST_SIZE),
        "output.dims": (-1, LARGEST_SIZE),
        "output.reshape.shape": (-1, LARGEST_SIZE),
        "dynamic_batching.preferred_batch_size": (1, LARGEST_BATCH),
        "dynamic_batching.max_queue_delay_microseconds": (0, LONGEST_DELAY_US),
        "dynamic_batching.default_queue_policy.default_timeout_microseconds": (0, LONGEST_TIMEOUT_US),
        "dynamic_batching.default_queue_policy.max_queue_size": (0, LONGEST_QUEUE),
        COUNT: (0, limits.copies),
        "instance_group.gpus": (0, 1023),
        "version_policy.latest.num_versions": (0, 1000),
        "version_policy.specific.versions": (1, (1 << 63) - 1),
        "optimization.graph.level": (-1, 2),
        "model_warmup.batch_size": (0, LARGEST_BATCH),
        "model_warmup.count": (0, 1000),
        "model_warmup.inputs.dims": (1, LARGEST_SIZE),
    }


def check_numbers(config: pb.ModelConfig, limits: ModelLimits) -> None:
    """Checks every number of a config that `refuse_unsupported` has let through.

    Raises:
        ModelError: one is out of bounds; the message has field, value and bounds.
    """
    _check_bounds(config, number_bounds(limits), config.name, "")
    parameters(config, limits)
    for side, entries in (("input", config.input), ("output", config.output)):
        for entry in entries:
            _check_sizes(config.name, f"{side}.dims", entry.dims)
            _check_sizes(config.name, f"{side}.reshape.shape", entry.reshape.shape)
    for sample in config.model_warmup:
        _check_sample(config, sample)


def check_copies(config: pb.ModelConfig, versions: int, limits: ModelLimits) -> None:
    """Checks what all copies of a model take together.

    Args:
        config: checked by `check_numbers`.
        versions: how many are served.
        limits: what it may take.

    Raises:
        ModelError: too much.
    """
    instances = sum(max(1, group.count) * max(1, len(group.gpus)) for group in config.instance_group)
    copies = versions * max(1, instances)
    if copies > limits.copies:
        what = f"{COUNT} over all groups, devices and versions"
        raise _beyond(config.name, what, copies, 1, limits.copies, MORE_COPIES)
    threads = versions * served(config).threads(parameters(config, limits), max(1, instances))
    most = max(MOST_THREADS, 2 * limits.copies)
    if threads > most:
        raise _beyond(config.name, "threads of all instances and versions", threads, 1, most)


def is_number(field: FieldDescriptor) -> bool:
    """Whether a field holds whole numbers (a `ModelConfig` has no fractions that this server honours)."""
    return field.cpp_type in (
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
    )


def _check_fields(message: Any, honoured: dict[str, Any], model: str, prefix: str) -> None:
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
            _check_fields(item, below, model, f"{place}.")


def _check_bounds(message: Any, bounds: dict[str, tuple[int, int]], model: str, prefix: str) -> None:
    for field, value in message.ListFields():
        place = f"{prefix}{field.name}"
        if field.is_repeated and len(value) > LENGTHS.get(place, len(value)):
            raise _beyond(model, f"the number of {place}", len(value), 0, LENGTHS[place])
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        for item in value.values() if is_map else value if field.is_repeated else [value]:
            if field.message_type is not None:
                _check_bounds(item, bounds, model, f"{place}.")
            elif is_number(field) and not bounds[place][0] <= item <= bounds[place][1]:
                raise _beyond(model, place, item, *bounds[place], MORE_COPIES if place == COUNT else "")


def _check_sizes(model: str, place: str, sizes: Sequence[int]) -> None:
    if 0 in sizes:
        raise ModelError(f"{model}: {place} has a 0; a size is -1 (any) or from 1 on", MEND)
    elements = prod(size for size in sizes if size > 0)
    if elements > LARGEST_SIZE:
        raise _beyond(model, f"the product of {place}", elements, 1, LARGEST_SIZE)


def _check_sample(config: pb.ModelConfig, sample: pb.ModelWarmup) -> None:
    rows = max(1, sample.batch_size)
    if rows > max(1, config.max_batch_size):
        raise _beyond(config.name, "model_warmup.batch_size", rows, 0, config.max_batch_size)
    size = 0
    for name, tensor in sample.inputs.items():
        kind = datatype(tensor.data_type)
        if kind not in NUMPY_TYPES:
            raise ModelError(f"{config.name}: model_warmup input '{printable(name)}' has data_type {kind}", MEND)
        size += rows * prod(tensor.dims) * np.dtype(NUMPY_TYPES[kind]).itemsize
    if size > LARGEST_WARM_UP:
        raise _beyond(config.name, "the bytes of a model_warmup sample", size, 0, LARGEST_WARM_UP)


def _refusal(model: str, what: str) -> ModelError:
    return ModelError(f"{model}: the embedded server does not support {what}", USE_TRITON)


def _beyond(model: str, what: str, value: int, lowest: int, highest: int, option: str = "") -> ModelError:
    return ModelError(f"{model}: {what} is {value:,}, not from {lowest:,} to {highest:,}{option}", MEND)
