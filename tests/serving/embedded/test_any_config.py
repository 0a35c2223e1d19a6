"""Any config at all, from a file or from a client: it is loaded or refused in time, and harms nobody else."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.serving.embedded.faults import Fault
from nanocv_cli.serving.embedded.library import Library
from nanocv_cli.serving.embedded.limits import ModelLimits
from nanocv_cli.serving.embedded.supported import HONOURED
from nanocv_cli.serving.repository.pbtxt import write
from tests.serving.embedded.libraries import SOON, X, ask, doubling_config, refusal
from tests.serving.models import write_model

POWERS = (0, 3, 5, 8, 12, 16, 31, 32, 62, 63, 64)
EDGES = sorted({sign * (1 << power) + step for power in POWERS for sign in (1, -1) for step in (-1, 0, 1)})
RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(1 << 31), (1 << 31) - 1),
}
LIKELY = ["", "x", "y", "first", "1", "2", "99", "labels.txt", "model.onnx", "..", "/etc/passwd", "a\0b", "\u2028"]
TEXTS = st.sampled_from([*LIKELY, "x" * 300]) | st.text(st.characters(exclude_categories=["Cs"]), max_size=9)


def scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Any value of a field, with a liking for the edges of what it can hold."""
    if field.cpp_type in RANGES:
        lowest, highest = RANGES[field.cpp_type]
        edges = [edge for edge in EDGES if lowest <= edge <= highest]
        small = st.integers(max(lowest, -2), 20)
        return small | small | st.sampled_from(edges) | st.integers(lowest, highest)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return st.binary(max_size=9) if field.type == FieldDescriptor.TYPE_BYTES else TEXTS
    return st.floats(allow_nan=False, width=32)


def change(data: st.DataObject, message: Any, honoured: dict[str, Any]) -> None:
    """Sets one field anywhere in a message, and what it stands in; mostly one that the server takes."""
    names = list(honoured) if honoured and data.draw(st.integers(0, 9)) else list(message.DESCRIPTOR.fields_by_name)
    field = message.DESCRIPTOR.fields_by_name[data.draw(st.sampled_from(names))]
    value, below = getattr(message, field.name), honoured.get(field.name, {})
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, item = (field.message_type.fields_by_name[part] for part in ("key", "value"))
        if item.message_type is None:
            value[data.draw(scalar(key))] = data.draw(scalar(item))
        else:
            change(data, value[data.draw(scalar(key))], below)
    elif field.message_type is not None:
        if field.is_repeated:
            value = data.draw(st.sampled_from(list(value))) if value and data.draw(st.booleans()) else value.add()
        value.SetInParent()
        if value.DESCRIPTOR.fields and data.draw(st.integers(0, 5)):
            change(data, value, below)
    elif field.is_repeated:
        value.extend(data.draw(st.lists(scalar(field), max_size=5)))
    else:
        setattr(message, field.name, data.draw(scalar(field)))


def any_config(data: st.DataObject) -> pb.ModelConfig:
    """A good config with some changes: most of what is drawn at random alone would be refused for its first field."""
    config = doubling_config("fuzzed")
    config.dynamic_batching.default_queue_policy.SetInParent()
    if data.draw(st.booleans()):
        sample = config.model_warmup.add(name="first", batch_size=1)
        sample.inputs["x"].data_type, sample.inputs["x"].random_data = pb.TYPE_UINT8, True
        sample.inputs["x"].dims.append(4)
    if data.draw(st.booleans()):
        key = data.draw(st.sampled_from(["intra_op_thread_count", "execution_mode", "enable_mem_arena"]))
        config.parameters[key].string_value = data.draw(TEXTS)
    for _ in range(data.draw(st.integers(1, 3))):
        change(data, config, HONOURED)
    return config


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Library]]:
    """A library with a model that must not notice anything."""
    repository = tmp_path_factory.mktemp("repository")
    for name in ("steady", "fuzzed"):
        write_model(repository, doubling_config(name), "doubling")

    async def make() -> Library:
        library = Library(repository, ModelLimits(copies=6, threads=3))
        await library.load("steady")
        return library

    with asyncio.Runner() as runner:
        library = runner.run(make())
        yield runner, library
        assert runner.run(asyncio.wait_for(library.close(), SOON))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), by_client=st.booleans())
def test_any_config_is_loaded_or_refused_and_what_is_loaded_answers(
    served: tuple[asyncio.Runner, Library], data: st.DataObject, by_client: bool
) -> None:
    runner, library = served
    config = any_config(data)
    entry = library.repository / "fuzzed"
    write(entry / "config.pbtxt", doubling_config("fuzzed") if by_client else config)

    async def check(override: str) -> None:
        said = await refusal(library, "fuzzed", override)
        event("refused" if said else "loaded")
        if said:
            assert said.startswith("failed to load 'fuzzed': ")
            assert "internal" not in said
            assert len(said) < 700
            assert str(library.repository) not in said
        else:
            assert library.answers("fuzzed")
            try:
                (answer,) = await ask(library, "fuzzed")
                assert answer.tolist() == [[2, 4, 6, 8]]
            except Fault as fault:
                assert "\n" not in fault.message
        assert (await ask(library, "steady"))[0].tolist() == (2 * X).tolist()
        assert library.ready == (not said)
        await library.unload("fuzzed")
        assert library.ready

    override = json_format.MessageToJson(config) if by_client else ""
    runner.run(asyncio.wait_for(check(override), 2 * SOON))


@pytest.mark.slow(4)
def test_a_great_config_is_refused_in_time(served: tuple[asyncio.Runner, Library], tmp_path: Path) -> None:
    """A file of the largest size that is read, of what takes longest to read."""
    runner, library = served
    entry = library.repository / "fuzzed"
    for text in ("input{}" * 149_000, "input{" + "dims:1 " * 149_000 + "}", 'name:"' + 'a" "' * 250_000 + '"'):
        (entry / "config.pbtxt").write_text(text, encoding="utf-8")
        assert runner.run(refusal(library, "fuzzed"))
        np.testing.assert_array_equal(runner.run(ask(library, "steady"))[0], 2.0 * X)
    runner.run(library.unload("fuzzed"))
