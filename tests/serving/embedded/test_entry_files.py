"""Names in a config lead to regular files of its own entry and to nothing else, whoever wrote the config."""

import asyncio
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.serving.embedded.entry_files import is_plain
from nanocv_cli.serving.repository.pbtxt import write
from nanocv_cli.serving.repository.python_backend import SHIPPED_MODEL_PY
from tests.serving.embedded.libraries import ask, doubling_config, opened, refusal
from tests.serving.models import entry_config, write_model

SECRET = "hidden:sesame:abracadabra"


def set_labels(config: pb.ModelConfig, name: str) -> None:
    config.output[0].label_filename = name


def set_graph(config: pb.ModelConfig, name: str) -> None:
    config.default_model_filename = name


def set_script(config: pb.ModelConfig, name: str) -> None:
    config.backend, config.default_model_filename = "python", name


def set_warmup(config: pb.ModelConfig, name: str) -> None:
    tensor = config.model_warmup.add(batch_size=2).inputs["x"]
    tensor.data_type, tensor.input_data_file = pb.TYPE_UINT8, name
    tensor.dims.append(4)


FIELDS = [set_labels, set_graph, set_script, set_warmup]


def fifo(folder: Path) -> str:
    os.mkfifo(folder / "fifo")
    return "fifo"


def bound_socket(folder: Path) -> str:
    former = Path.cwd()
    os.chdir(folder)  # a socket's path is short
    try:
        socket.socket(socket.AF_UNIX).bind("socket")
    finally:
        os.chdir(former)
    return "socket"


def link(target: str) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        (folder / "link").symlink_to(target.format(outside=folder.parents[1] / "outside"))
        return "link"

    return make


def linked_folder(folder: Path) -> str:
    (folder / "way").symlink_to(folder.parents[1] / "outside")
    return "way/secret"


def sparse(folder: Path) -> str:
    with (folder / "huge").open("wb") as file:
        file.truncate(200 << 30)
    return "huge"


def folder_of_that_name(folder: Path) -> str:
    (folder / "folder").mkdir()
    return "folder"


def unreadable_text(folder: Path) -> str:
    (folder / "bytes").write_bytes(b"\xff\xfe" + SECRET.encode())
    return "bytes"


TRICKS: dict[str, Callable[[Path], str]] = {
    "a path out": lambda folder: "../../outside/secret",
    "a path out and in again": lambda folder: f"../{folder.name}/labels.txt",
    "an absolute path": lambda folder: str(folder.parents[1] / "outside" / "secret"),
    "an absolute path of nothing": lambda folder: str(folder.parents[1] / "outside" / "nothing"),
    "a file of the system": lambda folder: "/etc/passwd",
    "a device": lambda folder: "/dev/zero",
    "percent": lambda folder: "%2e%2e%2f%2e%2e%2foutside%2fsecret",
    "backslashes": lambda folder: "..\\..\\outside\\secret",
    "a zero byte": lambda folder: "labels.txt\0",
    "a line end": lambda folder: "labels.txt\n",
    "here": lambda folder: ".",
    "above": lambda folder: "..",
    "a long name": lambda folder: "x" * 5000,
    "a name of two bytes a letter": lambda folder: "ä" * 200,
    "nothing": lambda folder: "nothing.txt",
    "a pipe": fifo,
    "a socket": bound_socket,
    "a link to a secret": link("{outside}/secret"),
    "a link to a model": link("{outside}/model.onnx"),
    "a link to the script": link("{outside}/model.py"),
    "a relative link": link("../../../outside/secret"),
    "a link to nothing": link("{outside}/nothing"),
    "a link to a device": link("/dev/zero"),
    "a link to itself": link("link"),
    "a linked folder": linked_folder,
    "a folder": folder_of_that_name,
    "a huge file": sparse,
    "no text": unreadable_text,
}


def secret_entry(tmp_path: Path) -> Path:
    """An entry of a repository beside a folder of secrets, some of which would do if they could be reached."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text(f"{SECRET}\n" * 4, encoding="utf-8")
    entry = write_model(tmp_path / "repository", doubling_config(), "doubling")
    shutil.copy(entry / "1" / "model.onnx", outside / "model.onnx")
    shutil.copy(SHIPPED_MODEL_PY, outside / "model.py")
    (entry / "warmup").mkdir()
    return entry


def folder_of(entry: Path, field: Callable[..., None]) -> Path:
    """Where the files lie that a field names."""
    return entry / {set_labels: "", set_warmup: "warmup"}.get(field, "1")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("trick", TRICKS)
def test_no_name_in_a_config_leads_out_of_its_entry(tmp_path: Path, field: Callable[..., None], trick: str) -> None:
    entry = secret_entry(tmp_path)
    folder = folder_of(entry, field)
    (tmp_path / "repository" / "outside").symlink_to(tmp_path / "outside")  # for the folder one deeper
    name = TRICKS[trick](folder)
    config = doubling_config()
    field(config, name)

    async def load() -> None:
        async with opened(tmp_path / "repository") as library:
            by_client = await refusal(library, "doubling", json_format.MessageToJson(config))
            write(entry / "config.pbtxt", config)
            by_file = await refusal(library, "doubling")
            for said in (by_client, by_file, library.index()[0].reason):
                assert said
                assert SECRET not in said
                assert str(tmp_path) not in said.replace(name, "")
            assert not library.loaded()

    asyncio.run(load())


@pytest.mark.parametrize("field", FIELDS)
def test_an_answer_does_not_tell_whether_there_is_something_at_a_place(
    tmp_path: Path, field: Callable[..., None]
) -> None:
    """The words are the same but for the name itself, whatever stands there."""
    entry = secret_entry(tmp_path)
    folder = folder_of(entry, field)
    os.mkfifo(folder / "aaa1")
    (folder / "aaa2").symlink_to(tmp_path / "outside" / "secret")
    (folder / "aaa3").symlink_to(tmp_path / "nowhere")
    (folder / "aaa4").mkdir()

    async def words(library_name: str) -> set[str]:
        async with opened(tmp_path / "repository") as library:
            said = set()
            for name in [f"aaa{number}" for number in range(6)]:
                config = doubling_config()
                field(config, name)
                if library_name == "file":
                    write(entry / "config.pbtxt", config)
                    said.add((await refusal(library, "doubling")).replace(name, "NAME"))
                else:
                    write(entry / "config.pbtxt", doubling_config())
                    said.add(await refusal(library, "doubling", json_format.MessageToJson(config)))
            return said

    for origin in ("file", "client"):
        assert len(asyncio.run(words(origin))) == 1


def test_a_client_may_name_what_the_entry_names(tmp_path: Path) -> None:
    """So that it can send back the config it was told, with a change; and nothing else, though it is there."""
    config = doubling_config()
    config.output[0].label_filename, config.default_model_filename = "names.txt", "net.onnx"
    set_warmup(config, "row")
    entry = write_model(tmp_path, config, "doubling")
    (entry / "1" / "model.onnx").rename(entry / "1" / "net.onnx")
    (entry / "other.txt").write_text("a\nb\nc\nd\n", encoding="utf-8")
    (entry / "warmup").mkdir()
    for name in ("row", "other"):
        (entry / "warmup" / name).write_bytes(bytes(4))
    shutil.copy(entry / "1" / "net.onnx", entry / "1" / "other.onnx")

    async def load() -> None:
        async with opened(tmp_path) as library:
            await library.load("doubling")
            told = library.find("doubling").config
            told.max_batch_size = 2
            told.dynamic_batching.ClearField("preferred_batch_size")
            assert await refusal(library, "doubling", json_format.MessageToJson(told)) == ""
            assert (await ask(library, "doubling", classes=1))[0].tolist() == [[b"8.000000:3:west"]]
            others = ((set_labels, "other.txt"), (set_graph, "other.onnx"), (set_graph, "model.onnx"))
            for field, name in (*others, (set_warmup, "other")):
                changed = pb.ModelConfig()
                changed.CopyFrom(told)
                field(changed, name)
                assert "may name no file" in await refusal(library, "doubling", json_format.MessageToJson(changed))
            told.ClearField("default_model_filename")
            told.output[0].ClearField("label_filename")
            assert "has no graph" in await refusal(library, "doubling", json_format.MessageToJson(told))

    asyncio.run(load())


def test_a_client_may_name_no_file_where_the_entry_has_no_config_that_can_be_read(tmp_path: Path) -> None:
    entry = write_model(tmp_path, doubling_config(), "doubling")
    (entry / "labels.txt").write_text("a\n", encoding="utf-8")
    (entry / "config.pbtxt").write_text("name: [", encoding="utf-8")
    config = doubling_config()

    async def load() -> None:
        async with opened(tmp_path) as library:
            assert await refusal(library, "doubling", json_format.MessageToJson(config)) == ""
            config.output[0].label_filename = "labels.txt"
            assert "may name no file" in await refusal(library, "doubling", json_format.MessageToJson(config))

    asyncio.run(load())


def test_the_owner_of_a_repository_may_link(tmp_path: Path) -> None:
    """As DVC does it: the graph, the config, a version's folder or the whole entry lie elsewhere."""
    store = tmp_path / "store"
    config = entry_config("doubling", "doubling")
    config.output[0].label_filename = "names.txt"
    entry = write_model(store, config, "doubling")
    (entry / "names.txt").rename(entry / "1" / "here.txt")
    (entry / "names.txt").symlink_to("1/here.txt")  # a link within the entry
    layouts = tmp_path / "repository"
    layouts.mkdir()
    (layouts / "doubling").symlink_to(entry)
    by_folder = layouts / "by_folder"
    by_folder.mkdir()
    (by_folder / "1").symlink_to(entry / "1")
    by_file = layouts / "by_file"
    (by_file / "1").mkdir(parents=True)
    for name in ("model.onnx", "model.py"):
        (by_file / "1" / name).symlink_to(entry / "1" / name)
    for folder in (by_folder, by_file):
        write(store / f"{folder.name}.pbtxt", entry_config(folder.name, "doubling"))
        (folder / "config.pbtxt").symlink_to(store / f"{folder.name}.pbtxt")

    async def load() -> None:
        async with opened(layouts) as library:
            for name in ("doubling", "by_folder", "by_file"):
                await library.load(name)
                assert (await ask(library, name))[0].tolist() == [[2, 4, 6, 8]]
            assert (await ask(library, "doubling", classes=1))[0].tolist() == [[b"8.000000:3:west"]]

    asyncio.run(load())


def test_a_config_that_links_out_of_its_entry_is_not_quoted(tmp_path: Path) -> None:
    entry = secret_entry(tmp_path)
    (entry / "config.pbtxt").unlink()
    (entry / "config.pbtxt").symlink_to(tmp_path / "outside" / "secret")

    async def load() -> None:
        async with opened(tmp_path / "repository") as library:
            assert "no ModelConfig" in (said := await refusal(library, "doubling"))
            assert not any(word in said for word in SECRET.split(":"))

    asyncio.run(load())


@pytest.mark.parametrize("place", ["config.pbtxt", "1/model.onnx", "1/model.py", "1"])
@pytest.mark.parametrize("trick", ["a pipe", "a link to a device", "a folder", "a huge file", "a link to itself"])
def test_usual_files_are_regular_and_bounded_too(tmp_path: Path, place: str, trick: str) -> None:
    entry = write_model(tmp_path / "repository", entry_config("doubling", "doubling"), "doubling")
    made = entry.parent / TRICKS[trick](entry.parent)
    target = entry / place
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    made.rename(target)

    async def load() -> None:
        async with opened(tmp_path / "repository") as library:
            said = await refusal(library, "doubling")
            assert said
            assert str(tmp_path) not in said

    asyncio.run(load())


@given(st.text(st.characters(), max_size=300) | st.sampled_from(["a/b", "..", "con\0", "\ud800", "a" * 256]))
def test_a_plain_name_is_one_name_in_the_folder_at_hand(name: str) -> None:
    if is_plain(name):
        path = Path("/folder") / name
        assert path.parent == Path("/folder")
        assert Path(os.path.normpath(path)) == path
        assert 0 < len(name.encode()) <= 255
        assert len(name.splitlines()) == 1
