"""Models of a hub by `hf://`: what is fetched, kept and pinned, and what a hostile repository is refused for."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub", reason="not installed: huggingface_hub")

from nanocv_cli.engine import hub_client
from nanocv_cli.engine.hub import fetch_hub_file, hub_origin
from nanocv_cli.engine.hub_client import HubReference
from nanocv_cli.errors import ModelError, NanocvError, RequestError, ServingError
from tests.conftest import Command
from tests.engine.graphs import colour_card, write_graph
from tests.engine.hub_server import LARGE, Hub, hub_server

GRAPH = b"a graph" * 2000
SMALL = b"a small graph"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    made = Hub(files={"model.onnx": GRAPH, "README.md": b"# hello"})
    with hub_server(made) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)  # the library read the variable once
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield made


def fetch(cache: Path, ref: str = "hf://me/lenet", suffix: str = ".onnx") -> Path:
    return fetch_hub_file(ref, suffix, cache)


def test_a_file_is_fetched_once_and_pinned(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fetch(tmp_path)
    sha256 = hashlib.sha256(GRAPH).hexdigest()
    assert path == tmp_path / "hub" / "me--lenet" / hub.commit / "model.onnx"
    assert path.read_bytes() == GRAPH
    origin = hub_origin(path)
    assert origin and (origin["reference"], origin["sha256"]) == (f"hf://me/lenet@{hub.commit}", sha256)
    assert f"{hub.commit}: model.onnx, 0.0 MB, sha256 {sha256}" in capsys.readouterr().err
    downloads = [path for method, path, _ in hub.asked if "/resolve/" in path]
    assert downloads == [f"/me/lenet/resolve/{hub.commit}/model.onnx"]
    assert fetch(tmp_path) == path
    assert len([path for method, path, _ in hub.asked if "/resolve/" in path]) == 1
    assert not any("README" in path for _, path, _ in hub.asked)


def test_a_commit_in_the_cache_asks_nobody(hub: Hub, tmp_path: Path) -> None:
    path = fetch(tmp_path)
    hub.asked.clear()
    assert fetch(tmp_path, f"hf://me/lenet@{hub.commit}") == path
    assert not hub.asked


def test_a_branch_that_moved_is_fetched_anew(hub: Hub, tmp_path: Path) -> None:
    first = fetch(tmp_path)
    hub.files["model.onnx"] = SMALL
    second = fetch(tmp_path)
    assert (first.read_bytes(), second.read_bytes()) == (GRAPH, SMALL)


def test_a_hub_that_is_away_leaves_the_cache(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fetch(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert fetch(tmp_path) == path
    assert "is taken from the cache" in capsys.readouterr().err
    with pytest.raises(ServingError, match="does not answer as a hub"):
        fetch(tmp_path, "hf://me/other")


def test_a_changed_file_in_the_cache_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    path = fetch(tmp_path)
    path.write_bytes(b"changed")
    assert fetch(tmp_path).read_bytes() == GRAPH


def test_the_token_goes_to_the_hub_alone(hub: Hub, tmp_path: Path) -> None:
    hub.private = True
    store = Hub(files={"model.onnx": GRAPH})
    with hub_server(store) as elsewhere, pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub_client, "_expect_store", lambda place, home: None)
        hub.store = f"{elsewhere}/store"
        fetch(tmp_path)
    assert {token for _, _, token in hub.asked} == {"hf_secret"}
    assert store.asked == [("GET", "/store/model.onnx", "")]


def test_a_private_model_without_a_token_is_one_line(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.private = True
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(RequestError, match="has no model me/lenet, or you may not read it"):
        fetch(tmp_path)


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("hf://me", "names no model of a hub"),
        ("hf://me/../x", "names no model of a hub"),
        ("hf://me/lenet@../../x", "names no model of a hub"),
        ("hf://me/lenet?x=1", "names no model of a hub"),
        ("hf://me/len\net", "names no model of a hub"),
        ("hf://me/lenet@v9", "no revision v9"),
        ("hf://me/other", "has no model me/other"),
    ],
)
def test_a_wrong_reference_is_one_line(hub: Hub, tmp_path: Path, ref: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        fetch(tmp_path, ref)


@pytest.mark.parametrize(
    "names", [["../model.onnx"], ["/etc/model.onnx"], ["a/model.onnx"], ["a\\..\\model.onnx"], [".model.onnx", "b.txt"]]
)
def test_names_that_lead_elsewhere_are_no_files(hub: Hub, tmp_path: Path, names: list[str]) -> None:
    hub.files = dict.fromkeys(names, GRAPH)
    with pytest.raises(RequestError, match=r"has no file \*\.onnx at its top"):
        fetch(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_one_of_several_files_is_not_guessed(hub: Hub, tmp_path: Path) -> None:
    hub.files = {"a.onnx": GRAPH, "b.onnx": GRAPH}
    with pytest.raises(RequestError, match=r"2 files \*\.onnx, none of them model.onnx"):
        fetch(tmp_path)
    hub.files = {"a.onnx": GRAPH, "pytorch_model.bin": b"pickle"}
    assert fetch(tmp_path).name == "a.onnx"


@pytest.mark.parametrize("content", [GRAPH, SMALL])
def test_other_content_than_was_announced_is_refused(hub: Hub, tmp_path: Path, content: bytes) -> None:
    hub.files["model.onnx"] = content
    for forged, message in (
        (content[::-1], "is not what the hub announced"),
        (content + b"x", f"came as more than {len(content):,} bytes"),
        (content[:-1], f"came as {len(content) - 1:,} of {len(content):,} bytes"),
    ):
        hub.forged["model.onnx"] = forged
        with pytest.raises(ModelError, match=message):
            fetch(tmp_path)
    assert not list(tmp_path.rglob("*.onnx*"))


def test_more_than_a_model_can_have_is_never_asked_for(hub: Hub, tmp_path: Path) -> None:
    hub.announced["model.onnx"] = 1 << 60
    with pytest.raises(ModelError, match="1 to 8,589,934,592 can be"):
        fetch(tmp_path)
    assert not any("/resolve/" in path for _, path, _ in hub.asked)


@pytest.mark.parametrize(
    "store", ["http://169.254.169.254/latest", "http://evil.example/x", "file:///etc", "https://hf.co.evil.example"]
)
def test_a_redirect_elsewhere_is_refused(hub: Hub, tmp_path: Path, store: str) -> None:
    hub.store = store
    with pytest.raises(ModelError, match="which is no place of the hub's"):
        fetch(tmp_path)


@pytest.mark.parametrize(
    "answer",
    ["", "no json", "[]", "{}", '{"id": "me/lenet", "sha": "../..", "siblings": []}',
     *(f'{{"id": "me/lenet", "sha": "{"a" * 40}", "siblings": [{{"rfilename": {entry}}}]}}'
       for entry in ('"model.onnx"', "5", '"model.onnx", "size": "9", "blobId": "../x"', '"model.onnx", "size": 9')),
     "[" * 100_000, " " * (17 << 20)],
    ids=str.__len__,
)  # fmt: skip
def test_answers_that_cannot_be_are_one_line(hub: Hub, tmp_path: Path, answer: str) -> None:
    hub.answer = answer
    with pytest.raises(NanocvError) as refused:
        fetch(tmp_path / "cache")
    assert "\n" not in refused.value.message
    assert not (tmp_path / "cache").exists()


def test_infer_reads_a_model_of_the_hub_without_torch(
    hub: Hub, project: Path, tiny_set: Path, tmp_path: Path, nanocv: Command
) -> None:
    graph = write_graph(tmp_path / "own.onnx", colour_card())
    hub.files["model.onnx"] = graph.read_bytes()
    image = next((tiny_set / "test" / "red").iterdir())
    script = f"import sys; sys.argv = ['nanocv', 'infer', {str(image)!r}, '--model', 'hf://me/lenet', '--json']\n"
    script += "from nanocv_cli.app import main\ntry: main()\nfinally: print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], cwd=project, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["predictions"][0]["label"] == "red"
    assert done.stderr.splitlines()[-1] == "False"
    assert (project / ".cache" / "nanocv" / "hub" / "me--lenet" / hub.commit / "model.onnx").is_file()
    refused = nanocv("eval", "--model", "hf://me/lenet", "--data", tiny_set, "--json")
    assert "has no file *.safetensors at its top" in refused.document["error"]["message"]


def test_large_and_small_files_are_both_tested() -> None:
    assert len(SMALL) < LARGE <= len(GRAPH)


def test_a_reference_reads_as_it_is_written() -> None:
    assert str(HubReference.parse("hf://me/lenet@refs/pr/3")) == "hf://me/lenet@refs/pr/3"
    assert str(HubReference.parse("hf://me/lenet")) == "hf://me/lenet@main"
