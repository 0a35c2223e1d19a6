"""`config.pbtxt` reads back as it was written; a damaged one is told with its line; what differs, by field."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc.model_config_pb2 import ModelConfig

from nanocv_cli.engine.signature import GraphSignature, TensorSignature
from nanocv_cli.errors import ModelError
from nanocv_cli.serving.repository.model_config import build_config
from nanocv_cli.serving.repository.pbtxt import config_differences, parse_config, read_config, to_text, write
from tests.serving.repository.entries import settings

IMAGES = GraphSignature((TensorSignature("images", "tensor(uint8)", (None, 8, 8, 3)),), ())


@given(name=st.text(st.characters(exclude_categories=["Cs"])), dims=st.lists(st.integers(-1, 2**40)))
def test_a_config_reads_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, name: str, dims: list[int]
) -> None:
    path = tmp_path_factory.mktemp("config") / "config.pbtxt"
    config = ModelConfig(name=name, max_batch_size=3)
    config.input.add(name=name, dims=dims)
    write(path, config)
    assert read_config(path) == config
    assert path.read_text(encoding="utf-8") == to_text(config)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: 'a'\nmax_batch: 4\n", ":2: .*no field named"),
        (b"name: 'a'\ninput [ { name", ":2: "),
        (b"name: 'a'\n\nmax_batch_size: four\n", ":3: "),
        (b"name: 'a'\nbackend: '\xff'\n", ":2: not UTF-8"),
        (b"\x00\x01", ":1: "),
        (b"input { name: 'x'\ndata_type: 99999999999 }", ":2: Value out of range"),
        (b"#" * ((1 << 20) + 1), ":1: larger than"),
    ],
)
def test_a_damaged_file_is_one_line_with_its_place(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"config.pbtxt{message}") as caught:
        read_config(path)
    assert "\n" not in caught.value.message
    assert caught.value.hint


@given(content=st.binary(max_size=200))
def test_any_content_is_a_config_or_a_model_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("config") / "config.pbtxt"
    path.write_bytes(content)
    try:
        assert isinstance(read_config(path), ModelConfig)
    except ModelError as error:
        assert f"{path}:" in error.message


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        read_config(tmp_path / "config.pbtxt")


def test_a_file_that_is_no_regular_one_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.pbtxt")
    with pytest.raises(ModelError, match="not a regular file"):
        read_config(tmp_path / "config.pbtxt")


@given(content=st.binary(max_size=200))
def test_a_file_may_be_called_something_else_than_its_path(content: bytes) -> None:
    try:
        assert isinstance(parse_config(content, "SHOWN"), ModelConfig)
    except ModelError as error:
        assert error.message.startswith("SHOWN:")


def test_differences_name_fields_and_whole_items() -> None:
    found = build_config(IMAGES, settings(max_batch=2, threads=1), "colours")
    wanted = build_config(IMAGES, settings(max_batch=4, kind="gpu", version_policy="all"), "colours")
    assert config_differences(wanted, wanted) == []
    lines = config_differences(found, wanted)
    assert "max_batch_size is 2; expected 4" in lines
    assert "instance_group[0].kind is KIND_CPU; expected KIND_GPU" in lines
    assert "parameters[intra_op_thread_count].string_value is '1'; expected '0'" in lines
    assert "version_policy.all is not set; expected there" in lines
    assert "model_warmup[batch of 4] is missing" in lines
    assert "model_warmup[batch of 2] is there; expected none" in lines
