"""A graph that keeps anything in other files is found out before ONNX Runtime sees it."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from nanocv_cli.errors import ModelError
from nanocv_cli.serving.embedded.entry_files import ONNX_FIELDS, refuse_external_data
from nanocv_cli.serving.embedded.limits import DEFAULT_LIMITS
from nanocv_cli.serving.embedded.session import sessions
from nanocv_cli.serving.embedded.watchdog import Watchdog
from tests.serving.embedded.libraries import doubling_config, opened, refusal
from tests.serving.models import GRAPHS, doubling, write_model

NAMES = {
    "ModelProto": "Model",
    "GraphProto": "Graph",
    "NodeProto": "Node",
    "AttributeProto": "Attribute",
    "SparseTensorProto": "Sparse",
    "FunctionProto": "Function",
    "TrainingInfoProto": "Training",
    "TensorProto": "Tensor",
}


def leads_to_tensors(kind: Descriptor, seen: tuple[str, ...] = ()) -> bool:
    """Whether a message of this kind can hold a tensor."""
    below = [field.message_type for field in kind.fields if field.message_type is not None]
    return kind.name == "TensorProto" or any(
        leads_to_tensors(one, (*seen, kind.name)) for one in below if one.name not in seen and one.name != kind.name
    )


def test_every_way_to_a_tensor_is_looked_along() -> None:
    """The table is onnx.proto's, whatever version of it is installed."""
    todo, found = [onnx.ModelProto.DESCRIPTOR], {}
    while todo:
        kind = todo.pop()
        if kind.name == "TensorProto" or NAMES.get(kind.name) in found:
            continue
        below = [field for field in kind.fields if field.message_type and leads_to_tensors(field.message_type)]
        found[NAMES[kind.name]] = {field.number: NAMES[field.message_type.name] for field in below}
        todo += [field.message_type for field in below]
    tensor = TensorProto.DESCRIPTOR.fields_by_name
    assert {tensor["external_data"].number, tensor["data_location"].number} == ONNX_FIELDS["Tensor"].keys()
    assert found == {name: fields for name, fields in ONNX_FIELDS.items() if name != "Tensor"}


def external(name: str = "w") -> TensorProto:
    """A tensor whose values are elsewhere."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def in_subgraph(model: onnx.ModelProto) -> None:
    graph = helper.make_graph([], "inner", [], [], [external()])
    model.graph.node.add(op_type="If").attribute.append(helper.make_attribute("then_branch", graph))


def in_nested_subgraph(model: onnx.ModelProto) -> None:
    inner = onnx.ModelProto()
    in_subgraph(inner)
    model.graph.node.add(op_type="Loop").attribute.append(helper.make_attribute("body", inner.graph))


def in_function(model: onnx.ModelProto) -> None:
    node = model.functions.add(name="f").node.add(op_type="Constant")
    node.attribute.append(helper.make_attribute("value", external()))


def in_sparse_attribute(model: onnx.ModelProto) -> None:
    sparse = onnx.SparseTensorProto(indices=external())
    model.graph.node.add(op_type="Constant").attribute.append(helper.make_attribute("sparse_value", sparse))


def without_location(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(external())
    model.graph.initializer[0].ClearField("data_location")


def without_entries(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(external())
    model.graph.initializer[0].ClearField("external_data")


HIDING: list[Callable[[onnx.ModelProto], Any]] = [
    lambda model: model.graph.initializer.append(external()),
    lambda model: model.graph.sparse_initializer.add(values=external()),
    lambda model: model.graph.node.add(op_type="Constant").attribute.append(helper.make_attribute("value", external())),
    lambda model: model.graph.node.add().attribute.append(helper.make_attribute("many", [external(), external()])),
    lambda model: model.training_info.add().algorithm.initializer.append(external()),
    in_subgraph,
    in_nested_subgraph,
    in_function,
    in_sparse_attribute,
    without_location,
    without_entries,
]


@pytest.mark.parametrize("hide", HIDING)
def test_external_data_is_refused_wherever_it_hides(hide: Callable[[onnx.ModelProto], Any]) -> None:
    model = doubling()
    hide(model)
    with pytest.raises(ModelError, match="external data"):
        refuse_external_data(model.SerializeToString(), "m")


def test_a_graph_that_is_given_twice_is_looked_at_twice() -> None:
    """Protobuf puts the two together."""
    second = onnx.ModelProto()
    second.graph.initializer.append(external())
    with pytest.raises(ModelError, match="external data"):
        refuse_external_data(second.SerializeToString() + doubling().SerializeToString(), "m")


@pytest.mark.parametrize("name", GRAPHS)
def test_whole_graphs_are_taken(name: str) -> None:
    refuse_external_data(GRAPHS[name]().SerializeToString(), "m")


@given(st.binary(max_size=200) | st.binary(max_size=20).map(lambda tail: doubling().SerializeToString()[:-9] + tail))
def test_rubbish_is_refused_or_has_no_external_data(content: bytes) -> None:
    try:
        refuse_external_data(content, "m")
    except ModelError as error:
        assert error.hint
        return
    with contextlib.suppress(DecodeError):  # it looks at less than onnx does
        assert not any(tensor.external_data for tensor in onnx.ModelProto.FromString(content).graph.initializer)


@pytest.mark.parametrize("location", ["weights.bin", "../../outside", "/etc/passwd", "nothing", "link", "fifo"])
def test_a_server_reads_no_other_file_for_a_graph(tmp_path: Path, location: str) -> None:
    entry = write_model(tmp_path, doubling_config(), "doubling")
    (entry / "1" / "weights.bin").write_bytes(bytes(16))
    model = doubling()
    model.graph.initializer.append(external())
    model.graph.initializer[0].external_data[0].value = location
    (entry / "1" / "model.onnx").write_bytes(model.SerializeToString())

    async def load() -> set[str]:
        async with opened(tmp_path) as library:
            return {await refusal(library, "doubling")}

    (said,) = asyncio.run(load())
    assert said == "failed to load 'doubling': doubling: the graph keeps tensors in other files (external data)"


def test_only_onnx_files_are_graphs(tmp_path: Path) -> None:
    """ONNX Runtime has a format of its own, which it knows by four letters and which may refer to files too."""
    entry = write_model(tmp_path, doubling_config(), "doubling")

    async def load() -> None:
        async with opened(tmp_path) as library:
            for content in (b"\x18\0\0\0ORTM" + bytes(40), b"", b"\0" * 100, b"\n" * 5000):
                (entry / "1" / "model.onnx").write_bytes(content)
                assert "cannot be loaded" in await refusal(library, "doubling")

    asyncio.run(load())


def test_a_session_does_not_keep_the_file_it_was_made_from() -> None:
    content = doubling().SerializeToString()
    before = sys.getrefcount(content)
    (session,) = sessions(content, doubling_config(), Watchdog(), DEFAULT_LIMITS, time.monotonic() + 60)
    assert sys.getrefcount(content) == before
    assert session.copy.signature.outputs[0].name == "y"
