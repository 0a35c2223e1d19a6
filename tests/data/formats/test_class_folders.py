"""Class folders: what is read, how it is split, what is refused."""

import shutil
from pathlib import Path

import pytest

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.formats.class_folders import read_class_folders
from nanocv_cli.errors import DataError
from tests.conftest import draw_class_image, write_tiny_set


def read(folder: Path, **values: object):  # type: ignore[no-untyped-def]
    return read_class_folders(DataConfig(name="set", path=str(folder), **values), folder)  # type: ignore[arg-type]


def sizes(dataset) -> dict[str, int]:  # type: ignore[no-untyped-def]
    return {split: len(samples) for split, samples in dataset.splits.items()}


def test_split_folders_are_taken_as_they_are(tiny_set: Path) -> None:
    dataset = read(tiny_set)
    assert dataset.classes == ("blue", "green", "red")
    assert sizes(dataset) == {"train": 36, "val": 12, "test": 12}
    assert all(dataset.classes[sample.label.index] == sample.path.parent.name for sample in dataset.split("train"))
    assert dataset.held_out == "test"


def test_other_names_for_the_val_split(tmp_path: Path) -> None:
    folder = write_tiny_set(tmp_path / "set", {"train": 3, "val": 2})
    (folder / "val").rename(folder / "valid")
    assert sizes(read(folder)) == {"train": 9, "val": 6}
    assert read(folder).held_out == "val"


def test_without_splits_every_class_is_divided_by_content(tmp_path: Path) -> None:
    folder = write_tiny_set(tmp_path / "set", {"": 20})
    dataset = read(folder)
    assert sizes(dataset) == {"train": 42, "val": 9, "test": 9}
    assert "split by content hash" in dataset.notes[0]
    renamed = shutil.copytree(folder, tmp_path / "elsewhere")
    for number, image in enumerate(sorted((renamed / "red").iterdir())):
        image.rename(renamed / "red" / f"z{(number * 7) % 20:03d}.png")
    contents = [{s.path.read_bytes() for s in read(f).split("test")} for f in (folder, renamed)]
    assert contents[0] == contents[1]
    assert {s.path for s in read(folder, split_seed=1).split("test")} != {s.path for s in dataset.split("test")}


def test_copies_never_leak_into_another_split(tmp_path: Path) -> None:
    folder = write_tiny_set(tmp_path / "set", {"": 10})
    for image in list((folder / "red").iterdir()):
        shutil.copy(image, image.with_name(f"copy-{image.name}"))
    dataset = read(folder)
    splits: dict[bytes, set[str]] = {}
    for split, samples in dataset.splits.items():
        for sample in samples:
            splits.setdefault(sample.path.read_bytes(), set()).add(split)
    assert len(splits) == 30
    assert all(len(found) == 1 for found in splits.values())


def test_a_missing_val_is_taken_from_train(tmp_path: Path) -> None:
    dataset = read(write_tiny_set(tmp_path / "set", {"train": 20, "test": 3}))
    assert sizes(dataset) == {"train": 51, "val": 9, "test": 9}
    assert "no val folder" in dataset.notes[0]


def test_a_class_with_one_image_trains_and_is_noted(tmp_path: Path) -> None:
    folder = write_tiny_set(tmp_path / "set", {"": 6})
    (folder / "lonely").mkdir()
    draw_class_image("red", 999).save(folder / "lonely" / "only.png")
    dataset = read(folder)
    lonely = dataset.classes.index("lonely")
    assert [split for split, samples in dataset.splits.items() for s in samples if s.label.index == lonely] == ["train"]
    assert "class lonely has 1 training image" in dataset.notes


def test_junk_and_empty_folders_are_passed_over(tiny_set: Path) -> None:
    (tiny_set / "train" / "red" / "notes.txt").write_text("x")
    (tiny_set / "train" / "red" / ".hidden.png").write_bytes(b"x")
    (tiny_set / "train" / "empty").mkdir()
    (tiny_set / "train" / "masks").mkdir()
    dataset = read(tiny_set)
    assert dataset.notes == (f"{Path('train', 'empty')} holds no image, and is no class",)
    assert dataset.classes == ("blue", "green", "red")
    assert len(dataset.split("train")) == 36


def test_a_class_that_nothing_measures_is_noted(tiny_set: Path) -> None:
    shutil.rmtree(tiny_set / "val" / "green")
    assert read(tiny_set).notes == ("val has no image of class green",)


def test_the_configs_classes_fix_the_order(tiny_set: Path) -> None:
    assert read(tiny_set, classes=("red", "blue")).classes == ("red", "blue")
    assert len(read(tiny_set, classes=("red", "blue")).split("train")) == 24


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda f: None, "no folder"),
        (lambda f: f.mkdir(), "no images in class folders"),
        (lambda f: (f / "a").mkdir(parents=True), "no images in class folders"),
        (lambda f: [(f / "a").mkdir(parents=True), draw_class_image("red", 1).save(f / "a/x.png")], "one class only"),
    ],
)
def test_what_cannot_be_a_set_is_refused(tmp_path: Path, prepare, message: str) -> None:  # type: ignore[no-untyped-def]
    prepare(tmp_path / "set")
    with pytest.raises(DataError, match=message):
        read(tmp_path / "set")


def test_a_class_of_the_config_without_images_is_refused(tiny_set: Path) -> None:
    with pytest.raises(DataError, match="no images of class pink"):
        read(tiny_set, classes=("red", "pink"))


def test_a_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    dataset = read(write_tiny_set(tmp_path / "set", {"train": 3, "val": 2}))
    with pytest.raises(DataError, match="no images in split test") as caught:
        dataset.split("test")
    assert caught.value.hint == "it has: train, val"


def test_the_fingerprint_follows_names_labels_and_splits(tiny_set: Path) -> None:
    before = read(tiny_set).fingerprint()
    assert read(tiny_set).fingerprint() == before
    next((tiny_set / "val" / "red").iterdir()).unlink()
    assert read(tiny_set).fingerprint() != before
