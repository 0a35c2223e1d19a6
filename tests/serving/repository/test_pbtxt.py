"""`config.pbtxt` reads back as it was written; a damaged one is told with its line."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc.model_config_pb2 import ModelConfig

from nanocv_cli.errors import ModelError
from nanocv_cli.serving.repository.pbtxt import parse_config, read_config, to_text, write


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
