"""Sets whose files and folders are links (DVC's cache, shared storage) are the sets that their contents would be."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.cache import cached_split
from nanocv_cli.data.check import check_dataset
from nanocv_cli.data.dataset import Dataset, Sample
from nanocv_cli.data.formats.table import WRITERS, read_as, read_labels
from nanocv_cli.data.labels.base import ClassLabel
from nanocv_cli.data.labels.boxes import Boxes, box_targets
from nanocv_cli.data.labels.masks import Mask, cached_masks
from tests.boxed import write_boxed_set
from tests.conftest import TINY, Command, write_tiny_set
from tests.masked import write_masked_set

SETS = [word for pair in TINY for word in ("--set", pair)]


def config(**more: Any) -> DataConfig:
    return DataConfig(name="set", path="x", **more)


def boxed(form: str) -> Callable[[Path], Any]:
    def write(root: Path) -> None:
        write_boxed_set(root.parent / "source", {"train": 4, "val": 2}, (60, 50))
        WRITERS[form](read_as(Boxes, config(), root.parent / "source"), root)
        shutil.rmtree(root.parent / "source")

    return write


def segmented(root: Path) -> None:
    write_boxed_set(root, {"train": 4, "val": 2}, (60, 50))
    for path in (root / "annotations").iterdir():
        document = json.loads(path.read_text())
        for entry in document["annotations"]:
            entry["segmentation"] = [[1.0, 1.0, 9.0, 1.0, 9.0, 7.5]]
        path.write_text(json.dumps(document))


FORMS: dict[str, Callable[[Path], Any]] = {
    "class_folders": lambda root: write_tiny_set(root, {"train": 4, "val": 2}),
    "no_splits": lambda root: write_tiny_set(root, {"": 5}),
    "masks": lambda root: write_masked_set(root, {"train": 4, "val": 2}, (60, 50)),
    "coco_masks": segmented,
    **{form: boxed(form) for form in WRITERS},
}


def read(form: str, root: Path) -> Dataset[Any]:
    return read_as(Mask, config(), root) if form == "coco_masks" else read_labels(config(), root)


def files_become_links(root: Path, store: Path) -> None:
    """As `dvc config cache.type symlink` leaves them: named by their content, outside of the set."""
    for path in [path for path in root.rglob("*") if path.is_file()]:
        kept = store / hashlib.md5(str(path).encode()).hexdigest()
        kept.parent.mkdir(parents=True, exist_ok=True)
        path.rename(kept)
        path.symlink_to(kept)


def folders_become_links(root: Path, store: Path) -> None:
    """Every folder of the set, from the innermost on."""
    for number, path in enumerate(sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True)):
        (store / str(number)).parent.mkdir(parents=True, exist_ok=True)
        path.rename(store / str(number))
        path.symlink_to(store / str(number))


def the_set_becomes_a_link(root: Path, store: Path) -> None:
    store.mkdir()
    root.rename(store / "elsewhere")
    (store / "alias").symlink_to("elsewhere")
    root.symlink_to(store / "alias")


def all_of_it(root: Path, store: Path) -> None:
    files_become_links(root, store / "files")
    folders_become_links(root, store / "folders")
    the_set_becomes_a_link(root, store / "set")


WAYS = [files_become_links, folders_become_links, the_set_becomes_a_link, all_of_it]


def contents(form: str, root: Path, cache: Path) -> tuple[Any, ...]:
    """All that training takes from a set."""
    found = read(form, root)
    images = [np.array(cached_split(cache, found.splits[s], 16, "stretch").rows) for s in found.splits]
    label = found.splits["train"][0].label
    targets: list[Any] = [
        box_targets(samples)
        if isinstance(label, Boxes)
        else [sample.label.index for sample in samples]
        if isinstance(label, ClassLabel)
        else np.array(cached_masks(cache, samples, 16, "stretch"))
        for samples in found.splits.values()
    ]
    checked = [(finding.kind, finding.message) for finding in check_dataset(found)]
    paths = [sample.path for samples in found.splits.values() for sample in samples]
    return found.fingerprint(), found.classes, found.notes, images, targets, checked, paths


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", FORMS)
def test_nothing_changes_when_links_take_the_place_of_what_they_lead_to(
    form: str, way: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    root = tmp_path / "place" / "set"
    FORMS[form](root)
    before = contents(form, root, tmp_path / "cache")
    way(root, tmp_path / "store")
    after = contents(form, root, tmp_path / "cache")
    for left, right in zip(before, after, strict=True):
        np.testing.assert_equal(left, right)


@pytest.mark.parametrize("way", WAYS)
def test_every_command_reads_through_links(
    way: Callable[[Path, Path], None], nanocv: Command, project: Path, tmp_path: Path
) -> None:
    for form in ("class_folders", "masks", "pascal_voc"):
        FORMS[form](project / form)
        way(project / form, tmp_path / f"store of {form}")
        assert nanocv("data", "check", f"./{form}").code == 0
        assert nanocv("data", "show", f"./{form}", "--out", "sheet.png").code == 0
        added = nanocv("data", "add", form, "--name", f"my-{form}")
        assert added.code == 0, added.err
        assert f"path: {form}\n" in (project / "configs" / "data" / f"my-{form}.yaml").read_text()
        assert nanocv("data", "check", f"my-{form}").code == 0
    converted = nanocv("data", "convert", "./pascal_voc", "--format", "yolo", "--out", "written")
    assert converted.code == 0, converted.err
    written = [path for path in (project / "written").rglob("*") if path.is_file()]
    assert not any(path.is_symlink() for path in written)
    shutil.rmtree(tmp_path / "store of pascal_voc")
    assert len(read_as(Boxes, config(), project / "written").splits["train"]) == 4
    assert all(Image.open(path).size for path in written if path.suffix == ".png")


@pytest.mark.slow(12)
def test_a_run_goes_on_when_its_images_have_become_links(nanocv: Command, project: Path, tiny_set: Path) -> None:
    assert nanocv("train", "--data", tiny_set, *SETS, "--out", "run").code == 0
    (project / "run" / "summary.json").unlink()
    all_of_it(tiny_set, project / "store")
    outcome = nanocv("train", "--resume", "run")
    assert outcome.code == 0, outcome.err


def test_links_that_lead_nowhere_and_what_is_no_file_are_unreadable_images(
    nanocv: Command, project: Path, tiny_set: Path
) -> None:
    red = tiny_set / "train" / "red"
    (red / "000.png").unlink()
    (red / "000.png").symlink_to("nowhere.png")
    (red / "001.png").unlink()
    (red / "001.png").symlink_to("001.png")
    (red / "002.png").unlink()
    os.mkfifo(red / "002.png")
    checked = nanocv("data", "check", tiny_set, "--json")
    assert checked.code == 1
    reasons = {
        Path(f["paths"][0]).name: f["message"] for f in checked.document["findings"] if f["kind"] == "unreadable"
    }
    assert set(reasons) == {"000.png", "001.png", "002.png"}
    assert "not a regular file" in reasons["002.png"]
    trained = nanocv("train", "--data", tiny_set, *SETS)
    assert trained.code == 0, trained.err
    assert trained.err.count("warning: left out of train") == 3


def test_a_set_without_splits_is_divided_whatever_cannot_be_read(tmp_path: Path) -> None:
    root = write_tiny_set(tmp_path / "set", {"": 12})
    before = read("no_splits", root)
    (root / "red" / "gone.png").symlink_to("nowhere")
    os.mkfifo(root / "red" / "pipe.png")
    with (root / "red" / "sparse.png").open("wb") as file:
        file.truncate(200 << 30)
    after = read("no_splits", root)
    added = {sample.path.name for sample in after.splits["train"]} - {s.path.name for s in before.splits["train"]}
    assert added == {"gone.png", "pipe.png", "sparse.png"}
    assert (before.splits["val"], before.splits["test"]) == (after.splits["val"], after.splits["test"])


@pytest.mark.parametrize(("form", "name"), [("coco", "annotations/train.json"), ("yolo", "labels/train/001.txt"),
                                            ("yolo", "data.yaml"), ("pascal_voc", "ImageSets/Main/train.txt"),
                                            ("pascal_voc", "Annotations/001.xml"),
                                            ("masks", "train/masks/001.png")])  # fmt: skip
def test_labels_that_are_pipes_are_never_waited_for(form: str, name: str, nanocv: Command, project: Path) -> None:
    FORMS[form](project / "set")
    (project / "set" / name).unlink()
    os.mkfifo(project / "set" / name)
    for command in ("check", "show", "add"):
        outcome = nanocv("data", command, "./set", "--json")
        assert outcome.code in (0, 1)
        json.loads(outcome.out)


def test_links_that_go_round_are_walked_to_an_end(tmp_path: Path) -> None:
    root = write_tiny_set(tmp_path / "set", {"train": 3, "val": 2})
    before = read("class_folders", root)
    for folder in [path for path in root.rglob("*") if path.is_dir()]:
        (folder / "all").symlink_to(root)
        (folder / "again").symlink_to("..")
    assert read("class_folders", root).splits == before.splits


def test_the_fingerprint_of_ordinary_sets_is_what_it_always_was() -> None:
    """Runs that were begun with an earlier nanocv can go on."""
    boxes = Boxes((90, 70), ((1.0, 2.0, 3.5, 4.0),), (1,), (False,), (True,))
    train = (Sample(Path("/set/train/a/1.png"), ClassLabel(0)), Sample(Path("/set/JPEGImages/é.png"), boxes))
    dataset = Dataset(
        "s", Path("/set"), ("a", "b"), {"train": train, "val": (Sample(Path("/set/2.png"), ClassLabel(1)),)}
    )
    assert dataset.fingerprint() == "c1128535d39b552b"


def test_images_beside_the_folder_of_their_labels_have_a_fingerprint(tmp_path: Path) -> None:
    FORMS["pascal_voc"](tmp_path / "set")
    (tmp_path / "set" / "ImageSets").rename(tmp_path / "set" / "Annotations" / "ImageSets")
    found = read("pascal_voc", tmp_path / "set" / "Annotations")
    assert len(found.splits["train"]) > 0
    assert found.fingerprint() == read("pascal_voc", tmp_path / "set" / "Annotations").fingerprint()
