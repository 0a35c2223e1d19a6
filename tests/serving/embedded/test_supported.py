"""Every number that a config may hold has a lowest and a highest value, and what is beyond is refused in words."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.errors import ModelError
from nanocv_cli.serving.embedded.backends import SERVED
from nanocv_cli.serving.embedded.limits import PROCESSORS, ModelLimits
from nanocv_cli.serving.embedded.supported import (
    HONOURED,
    LENGTHS,
    MOST_THREADS,
    check_copies,
    check_numbers,
    is_number,
    number_bounds,
)
from tests.serving.embedded.libraries import doubling_config

RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}
LIMITS = ModelLimits(copies=5, threads=3)
BOUNDS = number_bounds(LIMITS)


def honoured(descriptor: Descriptor, table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field that the server takes from a config, by its dotted name."""
    for name in table or descriptor.fields_by_name:
        field = descriptor.fields_by_name[name]
        yield f"{prefix}{name}", field
        kind = field.message_type
        if kind is None:
            continue
        if kind.GetOptions().map_entry:
            kind = kind.fields_by_name["value"].message_type
        yield from honoured(kind, table.get(name, {}), f"{prefix}{name}.")


def with_number(place: str, number: int) -> pb.ModelConfig:
    """A config in which one field, and what it stands in, is set."""
    config = pb.ModelConfig(name="m")
    message: Any = config
    *above, last = place.split(".")
    for name in above:
        field, value = message.DESCRIPTOR.fields_by_name[name], getattr(message, name)
        is_map = field.message_type.GetOptions().map_entry
        message = value["x"] if is_map else value.add() if field.is_repeated else value
    if message.DESCRIPTOR.fields_by_name[last].is_repeated:
        getattr(message, last).append(number)
    else:
        setattr(message, last, number)
    return config


def test_every_number_that_is_honoured_has_bounds_and_every_list_a_length() -> None:
    fields = dict(honoured(pb.ModelConfig.DESCRIPTOR, HONOURED))
    assert {place for place, field in fields.items() if is_number(field)} == BOUNDS.keys()
    assert {place for place, field in fields.items() if field.is_repeated} == LENGTHS.keys()


@given(st.data())
def test_a_number_beyond_its_bounds_is_refused_with_field_value_and_bounds(data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(sorted(BOUNDS)))
    lowest, highest = BOUNDS[place]
    field = dict(honoured(pb.ModelConfig.DESCRIPTOR, HONOURED))[place]
    smallest, largest = RANGES[field.cpp_type]
    beyond = st.one_of(
        *([st.integers(highest + 1, largest)] if highest < largest else []),
        *([st.integers(smallest, lowest - 1)] if smallest < lowest else []),
    )
    number = data.draw(beyond)
    with pytest.raises(ModelError) as refused:
        check_numbers(with_number(place, number), LIMITS)
    assert place in refused.value.message
    assert f"{number:,}" in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize(("backend", "key"), [(name, key) for name, row in SERVED.items() for key in row.parameters])
@pytest.mark.parametrize("text", ["", "-1", "4", "2.5", "two", "9" * 5000, "٣", " 1", "1e3", "0x1"])
def test_what_stands_as_text_is_bounded_too(backend: str, key: str, text: str) -> None:
    config = doubling_config()
    config.backend = backend
    config.parameters[key].string_value = text
    with pytest.raises(ModelError, match=r"not (a number from 0 to|YES|LATENCY)") as refused:
        check_numbers(config, LIMITS)
    assert key in refused.value.message
    assert len(refused.value.message) < 200


Change = Callable[[pb.ModelConfig], object]


def warm_up(batch: int, *dims: int, kind: int = pb.TYPE_FP32, name: str = "x") -> Change:
    def change(config: pb.ModelConfig) -> None:
        sample = config.model_warmup.add(batch_size=batch)
        sample.inputs[name].data_type = kind
        sample.inputs[name].dims.extend(dims)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.input[0].dims.append(0), "input.dims has a 0"),
        (lambda c: c.output[0].reshape.shape.append(0), "output.reshape.shape has a 0"),
        (lambda c: c.input[0].dims.extend([1 << 16, -1, 1 << 16]), "the product of input.dims"),
        (lambda c: c.output[0].dims.extend([1 << 30] * 31), "the product of output.dims"),
        (lambda c: c.input[0].dims.extend([1] * 32), "the number of input.dims is 33"),
        (lambda c: [c.input.add() for _ in range(256)], "the number of input is 257"),
        (lambda c: [c.model_warmup.add() for _ in range(65)], "the number of model_warmup is 65"),
        (lambda c: [c.instance_group.add() for _ in range(64)], "the number of instance_group is 65"),
        (warm_up(5, 4), "model_warmup.batch_size is 5"),
        (warm_up(4, 1 << 25), "the bytes of a model_warmup sample"),
        (warm_up(1, (1 << 31) - 1, (1 << 31) - 1), "the bytes of a model_warmup sample"),
        (warm_up(1, 4, kind=pb.TYPE_BF16), "data_type BF16"),
        (warm_up(1, 4, kind=pb.TYPE_INVALID), "data_type INVALID"),
    ],
)
def test_what_numbers_make_together_is_bounded(change: Change, words: str) -> None:
    config = doubling_config()
    change(config)
    with pytest.raises(ModelError) as refused:
        check_numbers(config, LIMITS)
    assert words in refused.value.message


def test_all_copies_together_are_bounded() -> None:
    config = doubling_config()
    check_copies(config, 5, LIMITS)
    with pytest.raises(ModelError, match=r"over all groups, devices and versions is 6, not from 1 to 5 .*--max-copies"):
        check_copies(config, 6, LIMITS)
    config.instance_group[0].count = 2
    config.instance_group.add(gpus=[0, 1, 2])
    check_copies(config, 1, LIMITS)
    with pytest.raises(ModelError, match="versions is 10"):
        check_copies(config, 2, LIMITS)


def test_the_threads_of_all_copies_are_bounded() -> None:
    config, many = doubling_config(), ModelLimits(copies=MOST_THREADS // 2, threads=3)
    config.parameters["intra_op_thread_count"].string_value = "3"
    check_copies(config, MOST_THREADS // 3, many)
    with pytest.raises(ModelError, match="threads of all instances"):
        check_copies(config, MOST_THREADS // 3 + 1, many)


def test_a_config_at_its_bounds_is_taken() -> None:
    config = doubling_config(max_batch=4096)
    config.dynamic_batching.max_queue_delay_microseconds = 60_000_000
    config.dynamic_batching.preferred_batch_size.extend(range(1, 4097))
    policy = config.dynamic_batching.default_queue_policy
    policy.max_queue_size, policy.default_timeout_microseconds = 1_000_000, 3_600_000_000
    config.instance_group[0].count = ModelLimits().copies
    config.parameters["intra_op_thread_count"].string_value = str(ModelLimits().threads)
    check_numbers(config, ModelLimits())
    assert ModelLimits().threads >= PROCESSORS
