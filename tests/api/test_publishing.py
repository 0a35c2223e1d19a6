"""A model as a hub's repository: what the folder holds, what is uploaded, and that both lead back to the model."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

pytest.importorskip("huggingface_hub", reason="not installed: huggingface_hub")

from huggingface_hub import ModelCardData

import nanocv_cli
from nanocv_cli.api import publishing
from nanocv_cli.api.publishing import publish
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.errors import ModelError, RequestError, ServingError
from nanocv_cli.exporting.hub_card import hub_readme
from nanocv_cli.rooms import task_names
from tests.conftest import Command, TrainedRun
from tests.engine.graphs import colour_card, write_graph
from tests.engine.hub_server import Hub, hub_server

FILES = {"README.md", "model.onnx", "model.safetensors", "results.png"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    made = Hub()
    with hub_server(made) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)  # the library read the variable once
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield made


@pytest.fixture
def logged_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_has_token", lambda: False)


def metadata(readme: str) -> Any:
    return yaml.safe_load(readme.removeprefix("---\n").split("\n---\n")[0])


@pytest.mark.slow(2)
@pytest.mark.usefixtures("logged_out")
def test_without_a_token_the_folder_is_written(trained: TrainedRun, project: Path, nanocv: Command) -> None:
    done = nanocv("export", "hub", "--repo", "me/lenet", "--model", trained.folder, "--license", "mit", "--json")
    assert done.code == 0, done.err
    assert done.document == {"repo": "me/lenet", "folder": "hub/me/lenet", "files": sorted(FILES), "url": None,
                             "commit": None}  # fmt: skip
    folder = project / "hub" / "me" / "lenet"
    assert {path.name for path in folder.iterdir()} == FILES
    assert (folder / "model.onnx").read_bytes() == trained.graph.read_bytes()
    assert (folder / "model.safetensors").read_bytes() == trained.checkpoint.read_bytes()
    with Image.open(folder / "results.png") as image:
        assert min(image.size) > 200
    readme = (folder / "README.md").read_text()
    front = metadata(readme)
    assert (front["license"], front["pipeline_tag"], front["library_name"]) == ("mit", "image-classification", "nanocv")
    (result,) = front["model-index"][0]["results"]
    assert result["dataset"] == {"name": "colours", "type": "colours", "split": "test"}
    figures = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert figures["top1"] == trained.summary["metrics"]["top1"]
    assert ModelCardData(**front).eval_results
    for told in ("blue, green, red", "hf://me/lenet", "results.png"):
        assert told in readme
    assert "not uploaded" in nanocv("export", "hub", "--repo", "me/lenet", "--model", trained.folder).out


@pytest.mark.slow(2)
def test_what_is_uploaded_is_what_is_loaded(hub: Hub, trained: TrainedRun, project: Path, nanocv: Command) -> None:
    done = publish(str(trained.folder), "me/lenet", project / "folder")
    (commit,) = hub.commits
    assert commit == {name: (project / "folder" / name).read_bytes() for name in FILES}
    assert done.commit == hub.commit and done.url and done.url.endswith(f"/me/lenet/commit/{hub.commit}")
    assert {token for _, path, token in hub.asked if path.startswith("/api/models/")} == {"hf_secret"}
    assert {token for _, path, token in hub.asked if path.startswith("/upload/")} == {""}
    assert nanocv_cli.load("hf://me/lenet").card.name == "lenet"
    measured = nanocv("eval", "--model", f"hf://me/lenet@{hub.commit}", "--data", trained.data, "--json")
    assert measured.document["metrics"]["top1"] == trained.summary["metrics"]["top1"]
    assert measured.document["hub"]["reference"] == f"hf://me/lenet@{hub.commit}"
    assert len(measured.document["hub"]["sha256"]) == 64


@pytest.mark.slow(1)
def test_a_hub_that_refuses_is_one_line_and_the_folder_stays(hub: Hub, trained: TrainedRun, project: Path) -> None:
    with pytest.raises(ServingError, match="does not answer as a hub"):
        publish(str(trained.folder), "you/lenet", project / "folder")
    assert {path.name for path in (project / "folder").iterdir()} == FILES


@pytest.mark.usefixtures("logged_out")
def test_without_the_images_no_results_are_drawn(
    trained: TrainedRun, project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*arguments: object) -> None:
        raise RequestError("the set is not here", "bring it here")

    monkeypatch.setattr("nanocv_cli.evaluation.evidence.read_own_set", absent)
    done = publish(str(trained.folder), "me/lenet", project / "folder")
    assert "results.png" not in done.files
    assert "![" not in (project / "folder" / "README.md").read_text()
    assert "no image of results: the set is not here" in capsys.readouterr().err


@pytest.mark.usefixtures("logged_out")
def test_graph_and_checkpoint_of_two_trainings_are_refused(trained: TrainedRun, project: Path) -> None:
    shutil.copy(trained.checkpoint, project / "mine.safetensors")
    write_graph(project / "mine.onnx", colour_card())
    with pytest.raises(ModelError, match="are not of one training"):
        publish("mine.safetensors", "me/lenet")
    assert not (project / "hub").exists()


@pytest.mark.parametrize("repository", ["lenet", "me/../x", "me/lenet/x", "-me/lenet", "me/le net", "me/lenet\n", ""])
def test_a_name_that_is_none_is_refused(project: Path, repository: str) -> None:
    with pytest.raises(RequestError, match="names no repository"):
        publish(None, repository)


def test_names_of_others_stay_text() -> None:
    classes = ("<script>alert(1)</script>", "a|b", "[x](http://evil)", "`c`", "---", "license: mit")
    card = ModelCard(
        name="x: {y}", task="classification", classes=classes, input_size=32, resize="crop", data="a: b",
        config={}, config_hash="0", metrics={"top1": 0.5, "---\nx": 1}, split="test",
    )  # fmt: skip
    readme = hub_readme(card, "me/x", "mit", None)
    front = metadata(readme)
    assert front["model-index"][0]["name"] == "x: {y}" and front["datasets"] == ["a: b"]
    assert [metric["type"] for metric in front["model-index"][0]["results"][0]["metrics"]] == ["top1"]
    page = readme.split("\n---\n", 1)[1]
    assert "<script>" not in page and "a|b" not in page and "](http" not in page


@pytest.mark.parametrize("task", task_names())
def test_every_task_has_its_words(task: str) -> None:
    card = ModelCard(
        name="m", task=task, classes=("a",), input_size=32, resize="crop", data="d", config={}, config_hash="0"
    )
    front = metadata(hub_readme(card, "me/m", "mit", "results.png"))
    assert front["tags"] == ["nanocv", "onnx", task]
    assert json.dumps(front)
