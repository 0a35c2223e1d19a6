"""Entries: what they hold, which version a graph becomes, what stays, what is refused."""

import os
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.engine.card import METADATA_KEY
from nanocv_cli.engine.graph import Graph
from nanocv_cli.engine.runtimes import RUNTIMES, Runtime
from nanocv_cli.errors import ModelError, RequestError, StorageError
from nanocv_cli.images.bounds import FROM_STRANGERS
from nanocv_cli.images.resize import open_square
from nanocv_cli.serving.repository import entry as entry_module
from nanocv_cli.serving.repository import versions
from nanocv_cli.serving.repository.entry import check_entry, write_entry
from nanocv_cli.serving.repository.model_config import build_config
from nanocv_cli.serving.repository.pbtxt import read_config
from nanocv_cli.serving.repository.python_backend import SHIPPED_MODEL_PY
from tests.engine.graphs import SIDE, write_graph
from tests.serving.repository.entries import graph, settings, tree


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "place" / "model_repository"


def test_an_entry_of_image_files_holds_what_reads_them(tmp_path: Path, repository: Path) -> None:
    entry = write_entry(graph(tmp_path), repository, settings(encoded=True, backend="python", max_batch=3))
    assert set(tree(repository / "colours")) == {
        *("config.pbtxt", "labels.txt", "nanocv_images.zip", "warmup/image", "1/model.onnx", "1/model.py")
    }
    config = read_config(entry.config)
    (images,) = config.input
    assert (images.data_type, list(images.dims), list(images.reshape.shape)) == (pb.TYPE_STRING, [1], [])
    assert [sample.inputs["images"].input_data_file for sample in config.model_warmup] == ["image", "image"]
    assert (
        check_entry(graph(tmp_path), repository, settings(encoded=True, backend="python", max_batch=3)).differences
        == ()
    )
    content = (repository / "colours" / "warmup" / "image").read_bytes()
    assert open_square(content[4:], SIDE, "crop", FROM_STRANGERS)[1] == (16, 16)
    write_entry(graph(tmp_path), repository, settings(encoded=True, warmup="off"), name="plain")
    assert set(tree(repository / "plain")) == {"config.pbtxt", "labels.txt", "1/model.onnx"}


@pytest.mark.parametrize("backend", ["python", "onnxruntime"])
def test_what_an_entry_of_image_files_leaves_behind_is_removed(tmp_path: Path, repository: Path, backend: str) -> None:
    """From all versions, one of an earlier nanocv's too; what others have put there stays."""
    write_entry(graph(tmp_path), repository, settings(encoded=True, backend="python"))
    write_entry(graph(tmp_path, 0.1), repository, settings(encoded=True, backend="python"))
    folder = repository / "colours"
    title = SHIPPED_MODEL_PY.read_bytes().splitlines()[0]
    (folder / "2" / "model.py").write_bytes(title + b'"""\n# of an earlier nanocv\n')
    (folder / "1" / "notes.txt").write_text("mine")
    entry = write_entry(graph(tmp_path, 0.1), repository, settings(backend=backend))
    kept = {"config.pbtxt", "labels.txt", "1/model.onnx", "1/notes.txt", "2/model.onnx"}
    models = {"1/model.py", "2/model.py"} if backend == "python" else set()
    assert set(tree(folder)) == kept | models and not (folder / "warmup").exists()
    assert any(line.endswith("nanocv_images.zip: is of other settings") for line in entry.differences)
    assert check_entry(graph(tmp_path, 0.1), repository, settings(backend=backend)).differences == ()


def test_files_of_others_stay_whatever_they_are_called(tmp_path: Path, repository: Path) -> None:
    write_entry(graph(tmp_path), repository, settings(backend="python"))
    mine = {"1/model.py": b"# mine\n", "warmup/image": b"mine", "warmup/other": b"mine"}
    for name, content in mine.items():
        (repository / "colours" / name).parent.mkdir(exist_ok=True)
        (repository / "colours" / name).write_bytes(content)
    write_entry(graph(tmp_path), repository, settings())
    assert mine.items() <= tree(repository / "colours").items()


def test_only_graphs_that_read_images_take_them_as_files(tmp_path: Path, repository: Path) -> None:
    with pytest.raises(ModelError, match="makes images"):
        write_entry(graph(tmp_path, task="generation"), repository, settings(encoded=True))


def test_an_entry_holds_config_graph_and_labels(tmp_path: Path, repository: Path) -> None:
    source = graph(tmp_path)
    entry = write_entry(source, repository, settings())
    assert (entry.model, entry.repository, entry.version) == ("colours", repository, 1)
    assert entry.config == repository / "colours" / "config.pbtxt"
    files = tree(repository / "colours")
    assert set(files) == {"config.pbtxt", "labels.txt", "1/model.onnx"}
    assert files["1/model.onnx"] == source.read_bytes()
    assert files["labels.txt"] == b"red\ngreen\nblue\n"
    assert read_config(entry.config).name == "colours"
    assert [path.name for path in repository.parent.iterdir()] == ["model_repository"]


def test_the_python_backend_gets_its_model_in_every_version(tmp_path: Path, repository: Path) -> None:
    write_entry(graph(tmp_path), repository, settings())
    entry = write_entry(graph(tmp_path, 0.1), repository, settings(backend="python"))
    files = tree(repository / "colours")
    assert entry.version == 2
    assert files["1/model.py"] == files["2/model.py"] == SHIPPED_MODEL_PY.read_bytes()
    assert read_config(entry.config).backend == "python"
    write_entry(graph(tmp_path, 0.1), repository, settings())
    assert "2/model.py" not in tree(repository / "colours")


def test_an_entry_of_openvino_says_what_tritons_backend_reads(tmp_path: Path, repository: Path) -> None:
    entry = write_entry(graph(tmp_path), repository, settings(backend="openvino", instances=2, threads=3))
    config = read_config(entry.config)
    assert (config.backend, config.default_model_filename) == ("openvino", "model.onnx")
    told = {key: value.string_value for key, value in config.parameters.items() if key != METADATA_KEY}
    assert told == {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "2",
        "INFERENCE_NUM_THREADS": "6",  # of all streams
        "ENABLE_BATCH_PADDING": "YES",
    }
    assert "INFERENCE_NUM_THREADS" not in build_config(Graph(graph(tmp_path)).signature, settings(backend="openvino"),
                                                       "x").parameters  # fmt: skip
    assert read_config(write_entry(graph(tmp_path), repository, settings()).config).default_model_filename == ""


def test_openvinos_own_form_of_a_graph_is_refused(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "graph.xml").write_text("<net/>")
    with pytest.raises(RequestError, match="is OpenVINO's own form of a graph") as refused:
        write_entry(tmp_path / "graph.xml", repository, settings(backend="openvino"))
    assert "--backend openvino" in str(refused.value.hint)


def test_what_openvino_cannot_run_is_not_written(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RUNTIMES, "openvino", Runtime("nanocv_cli.engine.graph:no_such_opener", "no_such_package",
                                                      "openvino"))  # fmt: skip
    with pytest.raises(RequestError, match="no_such_package is not installed") as refused:
        write_entry(graph(tmp_path), repository, settings(backend="openvino"))
    assert refused.value.hint == "pip install 'nanocv[openvino]'"
    assert not repository.exists()


@pytest.mark.parametrize(
    "changes", [{"precision": "bf16"}, {"backend": "openvino", "kind": "gpu"},
                {"backend": "openvino", "execution_mode": "parallel"}]
)  # fmt: skip
def test_a_setting_that_the_backend_has_not_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="backend openvino takes another"):
        settings(**changes)


def test_writing_it_again_writes_nothing(tmp_path: Path, repository: Path) -> None:
    assert write_entry(graph(tmp_path), repository, settings()).differences
    before = {path: path.stat().st_mtime_ns for path in repository.rglob("*")}
    again = write_entry(graph(tmp_path), repository, settings())
    assert (again.version, again.differences) == (1, ())
    assert {path: path.stat().st_mtime_ns for path in repository.rglob("*")} == before


def test_another_graph_is_the_next_version_and_the_former_ones_stay(tmp_path: Path, repository: Path) -> None:
    write_entry(graph(tmp_path, 0.1), repository, settings(), version=7)
    (repository / "colours" / "7" / "note.txt").write_text("kept")
    (repository / "colours" / "007").mkdir()  # no version to Triton
    inode = (repository / "colours" / "7" / "model.onnx").stat().st_ino
    assert write_entry(graph(tmp_path, 0.2), repository, settings()).version == 8
    assert write_entry(graph(tmp_path, 0.2), repository, settings(queue_delay_us=9)).version == 8
    files = tree(repository / "colours")
    assert files["7/model.onnx"] == graph(tmp_path, 0.1).read_bytes()
    assert files["8/model.onnx"] == graph(tmp_path, 0.2).read_bytes()
    assert files["7/note.txt"] == b"kept"
    assert (repository / "colours" / "7" / "model.onnx").stat().st_ino == inode


def test_a_version_that_is_named_is_replaced(tmp_path: Path, repository: Path) -> None:
    for strength in (0.1, 0.2):
        assert write_entry(graph(tmp_path, strength), repository, settings(), version=3).version == 3
    assert tree(repository / "colours")["3/model.onnx"] == graph(tmp_path, 0.2).read_bytes()


def test_versions_are_copied_where_there_are_no_hard_links(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_entry(graph(tmp_path, 0.1), repository, settings())

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError

    monkeypatch.setattr(entry_module.os, "link", refuse)
    write_entry(graph(tmp_path, 0.2), repository, settings())
    assert tree(repository / "colours")["1/model.onnx"] == graph(tmp_path, 0.1).read_bytes()


def test_several_models_share_a_repository(tmp_path: Path, repository: Path) -> None:
    write_entry(graph(tmp_path), repository, settings())
    before = tree(repository / "colours")
    assert write_entry(graph(tmp_path, 0.3), repository, settings(), name="other.one").model == "other.one"
    assert tree(repository / "colours") == before
    assert read_config(repository / "other.one" / "config.pbtxt").name == "other.one"


def test_a_check_lists_differences_and_writes_nothing(tmp_path: Path, repository: Path) -> None:
    assert "no such entry" in check_entry(graph(tmp_path), repository, settings()).differences[0]
    assert not repository.exists()
    write_entry(graph(tmp_path), repository, settings())
    assert check_entry(graph(tmp_path), repository, settings()).differences == ()
    before = tree(repository)
    (repository / "colours" / "labels.txt").unlink()
    checked = check_entry(graph(tmp_path, 0.1), repository, settings(max_batch=2, warmup="off"))
    assert checked.version == 1
    lines = "\n".join(checked.differences)
    for part in ("max_batch_size is 4; expected 2", "labels.txt: is missing", "1/model.onnx: has another content"):
        assert part in lines
    assert tree(repository).keys() == before.keys() - {"colours/labels.txt"}


@pytest.mark.parametrize("name", ["labels.txt", "1/model.onnx"])
def test_files_in_an_entry_are_read_no_further_than_they_should_be(tmp_path: Path, repository: Path, name: str) -> None:
    """Whatever lies there in their place: a huge file, a pipe; and it is replaced."""
    write_entry(graph(tmp_path), repository, settings())
    before = tree(repository)
    path = repository / "colours" / name
    with path.open("wb") as file:
        file.truncate(200 << 30)
    assert any(name in line for line in check_entry(graph(tmp_path), repository, settings(), version=1).differences)
    write_entry(graph(tmp_path), repository, settings(), version=1)
    assert tree(repository) == before
    path.unlink()
    os.mkfifo(path)
    assert any(name in line for line in check_entry(graph(tmp_path), repository, settings(), version=1).differences)
    write_entry(graph(tmp_path), repository, settings(), version=1)
    assert tree(repository) == before


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> bool:
        raise PermissionError(13, "Permission denied")

    write_entry(graph(tmp_path), repository, settings())
    monkeypatch.setattr(versions, "holds", refuse)
    with pytest.raises(ModelError, match=r"model.onnx cannot be read: Permission denied"):
        check_entry(graph(tmp_path), repository, settings())
    with pytest.raises(ModelError, match=r"labels.txt cannot be read: Permission denied|model.onnx cannot be read"):
        check_entry(graph(tmp_path), repository, settings(), version=1)


def test_labels_of_several_lines_are_refused_with_their_card(tmp_path: Path, repository: Path) -> None:
    with pytest.raises(ModelError, match="is no class name"):
        write_entry(graph(tmp_path, classes=("red\nrose", "green", "blue")), repository, settings())
    assert not repository.exists()


def test_versions_served_together_must_be_alike(tmp_path: Path, repository: Path) -> None:
    write_entry(graph(tmp_path), repository, settings())
    other = graph(tmp_path, 0.1, classes=("a", "b", "c"))
    with pytest.raises(ModelError, match="version 1 of colours has other inputs, outputs or classes"):
        write_entry(other, repository, settings(latest=2))
    assert write_entry(other, repository, settings()).version == 2
    with pytest.raises(ModelError, match="version 2"):
        write_entry(graph(tmp_path), repository, settings(), version=1)


def test_a_specific_version_must_be_there(tmp_path: Path, repository: Path) -> None:
    with pytest.raises(RequestError, match="no version 3 to serve, only 1"):
        write_entry(graph(tmp_path), repository, settings(version_policy="specific", versions=(1, 3)))
    assert not repository.exists()
    write_entry(graph(tmp_path), repository, settings(version_policy="specific", versions=(1,)))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", ".hidden", "-x", "a b", "a\n", "ä", "x" * 101])
def test_a_name_that_is_no_plain_folder_name_is_refused(tmp_path: Path, repository: Path, name: str) -> None:
    with pytest.raises(RequestError, match="cannot name a model"):
        write_entry(graph(tmp_path), repository, settings(), name=name)
    # What cannot name anything is refused with the card.
    with pytest.raises((RequestError, ModelError), match=r"cannot name a model|name is no name"):
        write_entry(graph(tmp_path, name=name), repository, settings())


@pytest.mark.parametrize("version", [0, -1, 2**63])
def test_a_version_out_of_range_is_refused(tmp_path: Path, repository: Path, version: int) -> None:
    with pytest.raises(RequestError, match="out of range"):
        write_entry(graph(tmp_path), repository, settings(), version=version)


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RequestError, match="is a file"):
        write_entry(graph(tmp_path), tmp_path / "file", settings())
    with pytest.raises(RequestError, match="not a folder of its own"):
        write_entry(graph(tmp_path), tmp_path, settings(), name="file")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(RequestError, match="not a folder of its own"):
        write_entry(graph(tmp_path), tmp_path, settings(), name="link")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, SIDE, SIDE, 3), "its first dimension is not any number of images"), (("n", 9, 9, 3), "its card promises")],
)
def test_a_graph_that_cannot_be_batched_is_refused(
    tmp_path: Path, repository: Path, shape: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        write_entry(write_graph(tmp_path / "fixed.onnx", shape=shape), repository, settings())
    assert not repository.exists()


def test_a_missing_graph_is_told(tmp_path: Path, repository: Path) -> None:
    with pytest.raises(ModelError, match="no graph"):
        write_entry(tmp_path / "nothing.onnx", repository, settings())


def test_a_graph_that_needs_files_beside_it_is_refused(tmp_path: Path, repository: Path) -> None:
    import onnx

    model = onnx.load(str(graph(tmp_path)))
    path = tmp_path / "apart" / "model.onnx"
    path.parent.mkdir()
    # The threshold moves the weights out, not the axes.
    onnx.save(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=60)
    with pytest.raises(ModelError, match="needs files beside it"):
        write_entry(path, repository, settings())
    assert list(repository.iterdir()) == []


def test_a_damaged_config_is_told_with_its_line_and_kept(tmp_path: Path, repository: Path) -> None:
    config = write_entry(graph(tmp_path), repository, settings()).config
    config.write_text("name: 'colours'\nmy_own: 3\n")
    for act in (write_entry, check_entry):
        with pytest.raises(ModelError, match=r"config.pbtxt:2: .*my_own") as caught:
            act(graph(tmp_path), repository, settings())
        assert "mend that line" in caught.value.hint
    assert config.read_text() == "name: 'colours'\nmy_own: 3\n"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        write_entry(graph(tmp_path), Path("/proc/nanocv/model_repository"), settings())


def test_a_failure_while_it_is_built_keeps_the_former_entry(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_entry(graph(tmp_path), repository, settings())
    before = tree(repository)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(entry_module.pbtxt, "write", full)
    with pytest.raises(StorageError, match="No space left"):
        write_entry(graph(tmp_path, 0.1), repository, settings())
    assert tree(repository) == before
    assert [path.name for path in repository.parent.iterdir()] == ["model_repository"]


def test_a_reference_into_the_repository_itself_works(tmp_path: Path, repository: Path) -> None:
    write_entry(graph(tmp_path), repository, settings())
    inside = repository / "colours" / "1" / "model.onnx"
    assert write_entry(inside, repository, settings(max_batch=2)).version == 1
    assert inside.read_bytes() == graph(tmp_path).read_bytes()
