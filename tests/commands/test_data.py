"""`nanocv data` as the user sees it, on folders of the user's own."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.boxed import write_boxed_set
from tests.conftest import Command, draw_class_image


def findings(outcome) -> set[tuple[str, str]]:  # type: ignore[no-untyped-def]
    return {(finding["level"], finding["kind"]) for finding in outcome.document["findings"]}


def test_check_passes_a_clean_set(nanocv: Command, project: Path, tiny_set: Path) -> None:
    outcome = nanocv("data", "check", tiny_set, "--json")
    assert outcome.code == 0
    assert outcome.document["findings"] == []
    assert outcome.document["splits"] == {"train": 36, "val": 12, "test": 12}


def test_links_are_seen_through(nanocv: Command, project: Path, tiny_set: Path) -> None:
    red, blue = tiny_set / "train" / "red", tiny_set / "train" / "blue"
    (blue / "hard.png").hardlink_to(red / "000.png")
    (blue / "soft.png").symlink_to(red / "001.png")
    (tiny_set / "val" / "red" / "hard.png").hardlink_to(red / "002.png")
    outcome = nanocv("data", "check", tiny_set, "--json")
    assert outcome.code == 1
    named = [(f["kind"], {Path(path).name for path in f["paths"]}) for f in outcome.document["findings"]]
    assert sorted(kind for kind, _ in named) == ["conflict", "conflict", "duplicate", "duplicate", "leak"]
    assert ("leak", {"002.png", "hard.png"}) in named and ("conflict", {"001.png", "soft.png"}) in named


def test_a_file_that_two_splits_name_is_named_once(nanocv: Command, project: Path) -> None:
    root = write_boxed_set(project / "shapes", {"train": 4, "val": 2})
    (root / "images").mkdir()
    (root / "val" / "001.png").rename(root / "images" / "both.png")
    for split in ("train", "val"):
        path = root / "annotations" / f"{split}.json"
        document = json.loads(path.read_text())
        document["images"][0]["file_name"] = "both.png"
        path.write_text(json.dumps(document))
    outcome = nanocv("data", "check", root, "--json")
    (leak,) = [finding for finding in outcome.document["findings"] if finding["kind"] == "leak"]
    assert leak["paths"] == [str(root / "images" / "both.png")]


def test_check_names_everything_that_is_wrong(nanocv: Command, project: Path, tiny_set: Path) -> None:
    red, blue = tiny_set / "train" / "red", tiny_set / "train" / "blue"
    (red / "000.png").write_bytes((red / "000.png").read_bytes()[:70])
    (red / "001.png").write_bytes(b"")
    shutil.copy(red / "002.png", tiny_set / "val" / "red" / "leaked.png")
    shutil.copy(red / "003.png", blue / "conflict.png")
    shutil.copy(red / "004.png", red / "copy.png")
    Image.new("RGB", (8, 8), "red").save(red / "tiny.png")
    (red / "notes.txt").write_text("x")
    outcome = nanocv("data", "check", tiny_set, "--json")
    assert outcome.code == 1
    expected = {("error", "unreadable"), ("error", "leak"), ("error", "conflict"), ("warning", "duplicate")}
    assert findings(outcome) == expected | {("warning", "small"), ("warning", "stray")}
    unreadable = [f["paths"][0] for f in outcome.document["findings"] if f["kind"] == "unreadable"]
    assert unreadable == [str(red / "000.png"), str(red / "001.png")]
    levels = [finding["level"] for finding in outcome.document["findings"]]
    assert levels == sorted(levels)


def test_show_writes_a_sheet_with_every_class(nanocv: Command, project: Path, tiny_set: Path) -> None:
    outcome = nanocv("data", "show", tiny_set, "-n", "3", "--out", "sheet.png", "--json")
    assert outcome.code == 0
    assert outcome.document["n"] == 9
    sheet = np.asarray(Image.open(project / "sheet.png")).astype(int)
    third = sheet.shape[0] // 3
    # Rows stand in label order: each row's own colour channel is the strongest.
    strongest = [int(np.argmax(sheet[row * third : (row + 1) * third].mean((0, 1)))) for row in range(3)]
    assert strongest == [2, 1, 0]


def test_add_registers_a_folder_that_train_then_knows(nanocv: Command, project: Path, tiny_set: Path) -> None:
    outcome = nanocv("data", "add", tiny_set, "--name", "paints", "--json")
    assert outcome.code == 0
    assert outcome.document["classes"] == ["blue", "green", "red"]
    assert nanocv("config", "check", "configs/data/paints.yaml").code == 0
    assert nanocv("config", "show", "data.path", "--data", "paints").out.split()[1] == str(tiny_set)
    listed = {entry["name"]: entry["state"] for entry in nanocv("data", "list", "--json").document["sets"]}
    assert listed["paints"] == "ready"
    again = nanocv("data", "add", tiny_set, "--name", "paints")
    assert again.code == 2
    assert "exists already" in again.err


def test_add_refuses_names_that_are_paths(nanocv: Command, project: Path, tiny_set: Path) -> None:
    outcome = nanocv("data", "add", tiny_set, "--name", "../evil")
    assert outcome.code == 2
    assert not (project / "configs").exists()


def test_add_refuses_what_no_config_can_hold(nanocv: Command, project: Path, tiny_set: Path) -> None:
    odd = project / os.fsdecode(b"caf\xe9")
    shutil.copytree(tiny_set, odd)
    for folder, *options in ((odd, "--name", "x"), (tiny_set, "--name", "x" * 300), ("y" * 5000,), ("nowhere",)):
        outcome = nanocv("data", "add", folder, *options, "--json")
        assert outcome.code == 2
        assert outcome.document["error"]["hint"]
    assert not (project / "configs").exists()


def test_classes_that_look_like_numbers_are_read_back(nanocv: Command, project: Path, tiny_set: Path) -> None:
    for name, odd in (("blue", "2e3"), ("green", "yes"), ("red", "010")):
        for split in ("train", "val", "test"):
            (tiny_set / split / name).rename(tiny_set / split / odd)
    assert nanocv("data", "add", tiny_set, "--name", "odd").code == 0
    assert nanocv("data", "check", "odd").code == 0


def test_list_knows_flowers_before_it_is_here(nanocv: Command, project: Path) -> None:
    entries = {entry["name"]: entry for entry in nanocv("data", "list", "--json").document["sets"]}
    assert entries["flowers"]["state"] == "not here"
    assert entries["flowers"]["detail"] == "nanocv data pull flowers"


@pytest.fixture
def few_flowers(project: Path) -> Path:
    """The config of a small set that nanocv draws, and is not here."""
    config = project / "configs" / "data" / "flowers.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(
        "name: flowers\npath: data/flowers\narchive: data/flowers.tar\nformat: class_folders\n"
        "classes: [daisy, rose, sunflower, tulip]\nflowers: {seed: 0, size: 64, train: 8, val: 4, test: 4}\n"
    )
    return config


@pytest.mark.usefixtures("few_flowers")
def test_outside_a_dvc_project_flowers_are_drawn(nanocv: Command, project: Path) -> None:
    outcome = nanocv("data", "pull", "flowers", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["how"] == "drawn"
    assert "drawing flowers: 16 images, about 1 s" in outcome.err
    assert len(list((project / "data" / "flowers" / "train").rglob("*.jpg"))) == 8
    assert nanocv("data", "check", "flowers", "--json").document["splits"] == {"train": 8, "val": 4, "test": 4}
    # The folder is made again from the archive where it was lost.
    shutil.rmtree(project / "data" / "flowers")
    assert nanocv("data", "check", "flowers").code == 0


def test_pulling_what_nobody_knows_names_the_nearest(nanocv: Command, project: Path) -> None:
    outcome = nanocv("data", "pull", "flower", "--json")
    assert outcome.code == 2
    assert "did you mean flowers?" in outcome.document["error"]["hint"]


def test_pulling_a_folder_of_ones_own_is_answered(nanocv: Command, project: Path, tiny_set: Path) -> None:
    outcome = nanocv("data", "pull", tiny_set)
    assert outcome.code == 2
    assert "nothing to pull" in outcome.err


@pytest.mark.usefixtures("few_flowers")
def test_who_needs_a_set_that_is_drawn_need_not_pull_it(nanocv: Command) -> None:
    first = nanocv("data", "check", "flowers", "--json")
    assert first.document["splits"] == {"train": 8, "val": 4, "test": 4}
    assert [line for line in first.err.splitlines() if "drawing" in line] == first.err.splitlines()
    assert len(first.err.splitlines()) == 1
    assert nanocv("data", "check", "flowers").err == ""


def test_a_set_of_the_repositorys_own_remote_comes_by_itself(nanocv: Command, project: Path, few_flowers: Path) -> None:
    assert nanocv("data", "pull", "flowers").code == 0
    archive = project / "data" / "flowers.tar"
    content = archive.read_bytes()
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    held = project / ".dvc" / "storage" / "files" / "md5" / md5[:2] / md5[2:]
    held.parent.mkdir(parents=True)
    held.write_bytes(content)
    few_flowers.write_text(few_flowers.read_text().partition("flowers: {")[0])  # a set that nobody draws
    archive.with_suffix(".tar.dvc").write_text(f"outs:\n- md5: {md5}\n  size: {len(content)}\n  path: flowers.tar\n")
    (project / ".dvc" / "config").write_text("[core]\nremote = own\n['remote \"own\"']\nurl = storage\n")

    def lose() -> None:
        archive.unlink()
        shutil.rmtree(project / "data" / "flowers")

    lose()
    outcome = nanocv("data", "check", "flowers", "--json")
    assert outcome.document["splits"] == {"train": 8, "val": 4, "test": 4}
    assert "data/flowers.tar was not here: taken from the repository's own remote" in outcome.err
    # A network is not asked by surprise.
    lose()
    (project / ".dvc" / "config").write_text("[core]\nremote = far\n['remote \"far\"']\nurl = s3://bucket/path\n")
    outcome = nanocv("data", "show", "flowers")
    assert outcome.code == 1
    assert "nanocv data pull flowers" in outcome.err


@pytest.mark.slow(6)
def test_a_set_of_one_class_is_answered(nanocv: Command, project: Path, tmp_path: Path) -> None:
    (tmp_path / "set" / "only").mkdir(parents=True)
    draw_class_image("red", 1).save(tmp_path / "set" / "only" / "a.png")
    outcome = nanocv("train", "--data", tmp_path / "set")
    assert outcome.code == 1
    assert "one class only" in outcome.err
    assert not (project / "runs").exists()
