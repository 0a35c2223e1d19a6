"""A repository shown as a tree, and the one that stands in this project: as written, and brought here when needed."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from nanocv_cli.config.loader import resolve_serve
from nanocv_cli.dvc.records import tracked_files
from nanocv_cli.errors import RequestError
from nanocv_cli.serving.repository.entry import check_entry, write_entry
from nanocv_cli.serving.repository.listing import list_entries
from nanocv_cli.serving.repository.versions import bring_versions
from tests.conftest import REPOSITORY, Command
from tests.serving.repository.entries import graph, settings

PRETRAINED = ("lenet", "nanoflow", "nanoseg", "nanospot")


@pytest.fixture
def repository(project: Path, tmp_path: Path) -> Path:
    """Two entries: one with two versions, of which the newest is served, and one that cannot be read."""
    folder = project / "model_repository"
    write_entry(graph(tmp_path), folder, settings())
    write_entry(graph(tmp_path, 0.1), folder, settings())
    (folder / "broken").mkdir()
    (folder / "broken" / "config.pbtxt").write_text("max_batch_size: many\n")
    (folder / "no_entry").mkdir()
    return folder


@pytest.mark.usefixtures("repository")
def test_the_tree_names_every_file_and_what_it_is(nanocv: Command) -> None:
    outcome = nanocv("serve", "list", "--out", "tree.png")
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    names = [line.split("  ")[0].rstrip() for line in lines if not line.startswith(("│  ", "   "))]
    assert names == ["model_repository/", "├── broken/", "└── colours/"]
    assert "broken/config.pbtxt:1: " in lines[2]
    colours = [line.strip(" ├└─│") for line in lines[3:]]
    assert [line.split()[0] for line in colours] == [
        "colours/",
        "config.pbtxt",
        "labels.txt",
        "1/model.onnx",
        "2/model.onnx",
    ]
    assert "red, green, blue" in colours[0]
    assert "up to 4 images" in colours[1]
    assert colours[3].endswith("not served")
    assert "UINT8" in colours[4]
    with Image.open("tree.png") as image:
        assert image.size[0] > 300
        assert image.size[1] > 20 * len(lines)
        assert len(image.getcolors(1 << 24) or []) > 3


@pytest.mark.usefixtures("repository")
def test_the_tree_as_json(nanocv: Command) -> None:
    broken, colours = nanocv("serve", "list", "--json").document["models"]
    assert broken["problem"]
    assert colours["problem"] is None
    assert [(one["version"], one["served"]) for one in colours["versions"]] == [(1, False), (2, True)]
    assert all(one["bytes"] > 100 for one in colours["versions"])
    assert colours["classes"] == ["red", "green", "blue"]
    assert colours["inputs"][0]["type"] == "UINT8"


def test_a_folder_that_is_not_there(nanocv: Command, project: Path) -> None:
    outcome = nanocv("serve", "list")
    assert outcome.code == 2
    assert "nanocv serve config --repository model_repository" in outcome.err


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project's own repository and DVC's files as git keeps them, without graphs."""
    folder = tmp_path_factory.mktemp("own")
    kept = ["git", "-C", REPOSITORY, "ls-files", "--", "model_repository", "dvc.lock", "dvc.yaml", ".dvc"]
    for name in subprocess.run(kept, capture_output=True, text=True, check=True).stdout.splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    return folder


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_repository_of_this_project_is_what_serve_config_writes(name: str, clone: Path) -> None:
    bring_versions(clone / "model_repository", clone)
    weights = tracked_files(clone)[f"weights/{name}-flowers.onnx"]
    own = clone / "model_repository" / name / "1" / "model.onnx"
    assert hashlib.md5(own.read_bytes(), usedforsecurity=False).hexdigest() == weights.md5
    entry = check_entry(own, clone / "model_repository", resolve_serve(None, {}, ()))
    assert entry.differences == ()
    assert (entry.model, entry.version) == (name, 1)


def test_the_repository_of_this_project_is_whole(clone: Path) -> None:
    assert [entry.name for entry in list_entries(clone / "model_repository")] == [*PRETRAINED]


def test_graphs_are_brought_once_and_what_was_removed_stays_so(
    clone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "clone"
    shutil.copytree(clone, folder)
    repository = folder / "model_repository"
    for name in PRETRAINED:
        shutil.rmtree(repository / name / "1", ignore_errors=True)
    shutil.rmtree(repository / "nanoflow")
    bring_versions(repository, folder)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith("3 graphs were not here")
    assert not (repository / "nanoflow").exists()
    bring_versions(repository, folder)
    assert capsys.readouterr().err == ""
    # A network is named, and not asked.
    shutil.rmtree(repository / "lenet" / "1")
    (folder / ".dvc" / "config.local").write_text("[core]\nremote = far\n['remote \"far\"']\nurl = s3://bucket/path\n")
    with pytest.raises(RequestError, match=r"remote far \(s3://bucket/path\)") as caught:
        bring_versions(repository, folder)
    assert caught.value.hint == "nanocv data pull model_repository"


def test_a_server_that_logs_in_json_says_so_of_graphs_that_it_brought(
    clone: Path, tmp_path: Path, nanocv: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "clone"
    shutil.copytree(clone, folder)
    repository = folder / "model_repository"
    for name in PRETRAINED:
        shutil.rmtree(repository / name / "1", ignore_errors=True)
        (repository / name / "config.pbtxt").write_text("damaged")
    monkeypatch.chdir(folder)
    outcome = nanocv("serve", "run", "--repository", repository, "--access-log", "json")
    brought, *failed = outcome.err.splitlines()
    assert json.loads(brought)["message"].startswith("4 graphs were not here")
    assert failed[0].startswith("error: ")
