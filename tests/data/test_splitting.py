"""A set without splits is divided by content or by name; a large one is read once, and its cost is said before."""

from pathlib import Path

import pytest

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data import splitting
from nanocv_cli.data.dataset import Dataset
from nanocv_cli.data.formats.table import read_as
from nanocv_cli.data.labels.base import ClassLabel
from tests.conftest import write_tiny_set


@pytest.fixture
def folder(project: Path) -> Path:
    return write_tiny_set(project / "set", {"": 12})


def read(folder: Path, **keys: object) -> Dataset[ClassLabel]:
    return read_as(ClassLabel, DataConfig(name="set", path="set", **keys), folder)  # type: ignore[arg-type]


def names(dataset: Dataset[ClassLabel]) -> dict[str, list[str]]:
    return {split: [str(sample.path) for sample in samples] for split, samples in dataset.splits.items()}


def test_by_name_nothing_is_read_and_content_does_not_matter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitting, "content_hash", lambda *_: pytest.fail("a file was read"))
    found = read(folder, split_by="name")
    assert found.notes[0].startswith("no train/val/test folders: split by a hash of names into 24 train, 6 val, 6 test")
    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    assert names(read(folder, split_by="name")) == names(found)
    assert names(read(folder, split_by="name", split_seed=1)) != names(found)


def test_a_large_set_is_read_once_and_its_cost_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = names(read(folder))
    monkeypatch.setattr(splitting, "MANY_FILES", 30)
    assert names(read(folder)) == expected
    (cost,) = capsys.readouterr().err.splitlines()
    assert cost.startswith("dividing set by content reads 36 files, 0.0 GB, once: up to 1 min; data.split_by=name")

    with monkeypatch.context() as patch:
        patch.setattr(splitting, "content_hash", lambda *_: pytest.fail("a file was read again"))
        assert names(read(folder)) == expected
    (kept,) = (folder.parent / ".cache" / "nanocv").iterdir()

    changed = folder / "red" / "003.png"
    changed.write_bytes((folder / "red" / "004.png").read_bytes())
    read_again: list[str] = []
    original = splitting.content_hash

    def noted(path: Path, salt: bytes) -> str:
        read_again.append(str(path))
        return original(path, salt)

    monkeypatch.setattr(splitting, "content_hash", noted)
    divided = names(read(folder))
    assert read_again == [str(changed)]
    assert any({str(changed), str(folder / "red" / "004.png")} <= set(paths) for paths in divided.values())

    kept.write_bytes(kept.read_bytes()[:-1])
    assert names(read(folder)) == divided
    assert len(read_again) == 37


def test_a_file_that_cannot_be_read_is_tried_again_without_a_word(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(splitting, "MANY_FILES", 30)
    lost = folder / "red" / "003.png"
    lost.unlink()
    lost.symlink_to("nowhere")
    divided = names(read(folder))
    assert capsys.readouterr().err.startswith("dividing set by content reads 36 files")
    opened: list[Path] = []
    original = splitting.open_image_file
    monkeypatch.setattr(splitting, "open_image_file", lambda path: opened.append(path) or original(path))
    assert names(read(folder)) == divided
    assert opened == [lost] and not capsys.readouterr().err
