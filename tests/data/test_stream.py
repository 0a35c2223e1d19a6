"""Streamed images are the cached ones, bit for bit and in their order; what cannot be read is replaced, or an error."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data import stream
from nanocv_cli.data.batches import Batches
from nanocv_cli.data.formats.table import read_as
from nanocv_cli.data.labels.base import ClassLabel
from nanocv_cli.data.listing import Listing
from nanocv_cli.display import Display
from nanocv_cli.errors import DataError
from nanocv_cli.evaluation.evaluate import Split, load_split
from nanocv_cli.tasks.table import task_for
from tests.conftest import write_tiny_set

SIZE = 24


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_set(tmp_path / "set", {"train": 12, "val": 2})


def loaded(folder: Path, cache_gb: float) -> Split:
    config = DataConfig(name="set", path="set", cache_gb=cache_gb)
    dataset, task = read_as(ClassLabel, config, folder), task_for("classification")
    return load_split(dataset, "train", task, folder.parent / "cache", SIZE, "crop", Display())


def batches(split: Split) -> Batches:
    return Batches(split.images, split.targets, 5, seed=3)


def test_every_batch_is_the_one_of_the_cache(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    streamed = loaded(folder, 0.0)
    assert "train streams: 0.00 GB decoded" in capsys.readouterr().err
    assert not (folder.parent / "cache").exists()
    cached = loaded(folder, 1.0)
    assert np.array_equal(streamed.images[:], cached.images[:])
    assert np.array_equal(streamed.images[7], cached.images[7])
    assert np.array_equal(streamed.images[np.array([3, 1])], cached.images[np.array([3, 1])])
    for first in (0, 4):
        pairs = list(zip(batches(streamed).epoch(2, first), batches(cached).epoch(2, first), strict=True))
        assert len(pairs) == 7 - first
        assert all(torch.equal(*part) for pair in pairs for part in zip(*pair, strict=True))
    # What is kept already is read, whatever the bound.
    assert np.array_equal(loaded(folder, 0.0).images[:], cached.images[:])
    assert not capsys.readouterr().err


def test_images_that_are_asked_for_at_once_keep_all_readers_busy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = loaded(folder, 0.0)
    monkeypatch.setattr(Listing, "readers", 12)
    together, image = threading.Barrier(12, timeout=30), stream.StreamedImages._image

    def waiting(images: stream.StreamedImages, place: int) -> np.ndarray:
        together.wait()
        return image(images, place)

    monkeypatch.setattr(stream.StreamedImages, "_image", waiting)
    assert split.images[:12].shape == (12, SIZE, SIZE, 3)
    assert split.images[:24].shape == (24, SIZE, SIZE, 3)


def test_the_bound_is_that_of_the_whole_cache(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded(folder, 70e-6)  # 36 images of 1,728 bytes
    assert "streams" not in capsys.readouterr().err
    config = DataConfig(name="set", path="set", cache_gb=70e-6)
    dataset = read_as(ClassLabel, config, folder)
    load_split(dataset, "val", task_for("classification"), folder.parent / "cache", SIZE, "crop", Display())
    assert "val streams" in capsys.readouterr().err


def test_another_image_and_its_label_stand_in_for_one_that_is_lost(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = loaded(folder, 0.0)
    capsys.readouterr()
    whole = split.images[:]
    (folder / "train" / "blue" / "011.png").unlink()  # the one before the first of the next class
    for _ in range(2):
        ((images, shown),) = split.images.gather([np.array([11, 3])])
        assert shown.tolist() == [12, 3]
        assert np.array_equal(images, whole[[12, 3]])
    said = capsys.readouterr().err
    assert said.count("stands in for it (1 so far)") == 1 and "blue/011.png: No such file" in said
    shown_labels = torch.cat([targets for _, targets in batches(split).epoch(0)])
    assert len(shown_labels) == 35
    with pytest.raises(DataError, match=r"011\.png: No such file"):
        split.images[8:16]


def test_too_many_lost_images_are_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = loaded(folder, 0.0)
    monkeypatch.setattr(stream, "LOST_FEW", 3)
    for path in (folder / "train" / "red").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"4 of 36 images cannot be read, the last of them .*red/\d+\.png: ") as failure:
        list(batches(split).epoch(0))
    assert "--resume" in failure.value.hint


def test_no_more_batches_are_decoded_than_memory_is_set_aside_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = loaded(folder, 0.0)
    monkeypatch.setattr(stream, "AHEAD_BYTES", 2 * 5 * SIZE * SIZE * 3)
    asked: list[int] = []

    def wanted() -> object:
        for number in range(7):
            asked.append(number)
            yield np.arange(5)

    found = split.images.gather(wanted())  # type: ignore[arg-type]
    next(found)
    assert len(asked) == 3
    found.close()  # type: ignore[attr-defined]
