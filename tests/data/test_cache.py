"""The decoded-image cache: same bytes as inference graph_inputs, made once, never half."""

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data import cache as cache_module
from nanocv_cli.data.cache import cached_split
from nanocv_cli.data.dataset import Sample
from nanocv_cli.data.formats.table import read_as
from nanocv_cli.data.labels.masks import Mask, cached_masks
from nanocv_cli.display import Display
from nanocv_cli.errors import DataError, StorageError
from nanocv_cli.evaluation.evaluate import load_split
from nanocv_cli.images.resize import open_image, resize_to_square
from nanocv_cli.tasks.table import task_for
from tests.conftest import draw_class_image
from tests.masked import write_masked_set


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample[int]]:
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for i, path in enumerate(paths):
        draw_class_image("red", i).save(path)
    return [Sample(path, i) for i, path in enumerate(paths)]


def test_it_holds_what_inference_would_feed(tmp_path: Path, samples: list[Sample[int]]) -> None:
    cached = cached_split(tmp_path / "cache", samples, 24, "crop")
    assert cached.images.shape == (5, 24, 24, 3)
    assert cached.images.dtype == np.uint8
    for image, sample in zip(cached.images, samples, strict=True):
        assert np.array_equal(image, resize_to_square(open_image(sample.path), 24, "crop"))


def test_it_is_made_once(tmp_path: Path, samples: list[Sample[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    cached_split(tmp_path / "cache", samples, 24, "crop", lambda done, total: calls.append((done, total)))
    assert calls[-1] == (5, 5)
    monkeypatch.setattr(cache_module, "open_square", lambda *_: pytest.fail("decoded again"))
    assert len(cached_split(tmp_path / "cache", samples, 24, "crop").images) == 5


def test_another_size_rule_or_content_is_another_cache(tmp_path: Path, samples: list[Sample[int]]) -> None:
    folder = tmp_path / "cache"
    cached_split(folder, samples, 24, "crop")
    cached_split(folder, samples, 32, "crop")
    cached_split(folder, samples, 24, "stretch")
    assert len(list(folder.iterdir())) == 3
    before = cached_split(folder, samples, 24, "crop").images[0].copy()
    draw_class_image("blue", 77).save(samples[0].path)
    os.utime(samples[0].path, ns=(1, 1))
    assert not np.array_equal(cached_split(folder, samples, 24, "crop").images[0], before)


def test_unreadable_images_are_left_out_and_named(tmp_path: Path, samples: list[Sample[int]]) -> None:
    samples[1].path.write_bytes(samples[1].path.read_bytes()[:60])
    samples[3].path.write_bytes(b"")
    cached = cached_split(tmp_path / "cache", samples, 24, "crop")
    assert cached.kept == (0, 2, 4)
    assert [path for path, _ in cached.unreadable] == [str(samples[1].path), str(samples[3].path)]
    assert np.array_equal(cached.images[1], resize_to_square(open_image(samples[2].path), 24, "crop"))


def test_nothing_readable_is_an_error_and_leaves_no_cache(tmp_path: Path, samples: list[Sample[int]]) -> None:
    for sample in samples:
        sample.path.write_bytes(b"junk")
    with pytest.raises(DataError, match="not one of 5 images is readable"):
        cached_split(tmp_path / "cache", samples, 24, "crop")
    assert not (tmp_path / "cache").exists()


def test_a_killed_writer_leaves_nothing_under_the_caches_name(
    tmp_path: Path, samples: list[Sample[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, size: int, rule: str) -> np.ndarray:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cache_module, "open_square", killed)
        cached_split(tmp_path / "cache", samples, 24, "crop")
    assert len(cached_split(tmp_path / "cache", samples, 24, "crop").images) == 5


def test_a_cache_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path, samples: list[Sample[int]]) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="the image cache: cannot write"):
        cached_split(tmp_path / "file" / "cache", samples, 24, "crop")


def only_entry(folder: Path) -> Path:
    (entry,) = folder.iterdir()
    return entry


def replaced(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


INDEX = b'{"bytes": 8640, "kept": [0, 1, 2, 3, 4], "left_out": []}'
DAMAGES: dict[str, Callable[[Path], object]] = {
    "rows cut": lambda entry: os.truncate(entry / "rows.u8", 1000),
    "rows empty": lambda entry: os.truncate(entry / "rows.u8", 0),
    "rows longer": lambda entry: os.truncate(entry / "rows.u8", 100_000),
    "rows gone": lambda entry: (entry / "rows.u8").unlink(),
    "rows a pipe": lambda entry: as_pipe(entry / "rows.u8"),
    "index gone": lambda entry: (entry / "index.json").unlink(),
    "index a pipe": lambda entry: as_pipe(entry / "index.json"),
    "index a folder": lambda entry: ((entry / "index.json").unlink(), (entry / "index.json").mkdir()),
    "entry a file": lambda entry: (shutil.rmtree(entry), entry.write_bytes(b"x")),
    "entry a link to nothing": lambda entry: (shutil.rmtree(entry), entry.symlink_to("nowhere")),
    "entry empty": lambda entry: (shutil.rmtree(entry), entry.mkdir()),
    "entry of another set": lambda entry: replaced(entry / "index.json", INDEX.replace(b", 4]", b"]")),
    **{
        content.decode(errors="replace")[:40]: lambda entry, content=content: replaced(entry / "index.json", content)  # type: ignore[misc]
        for content in (
            b"", b"\xff", b"{", b"[]", b"null", INDEX[:-1], b"[" * 100_000,
            INDEX.replace(b"0, 1", b"1, 0"), INDEX.replace(b"4]", b"5]"),
            INDEX.replace(b"4]", b"-1]"), INDEX.replace(b"4]", b"3]"), INDEX.replace(b"4]", b"1e400]"),
            INDEX.replace(b"[0, 1, 2, 3, 4]", b"[]"), INDEX.replace(b"8640", b"8641"), INDEX.replace(b"8640", b"[]"),
            INDEX.replace(b'"left_out": []', b'"left_out": [[9, "x"]]'), INDEX.replace(b'"kept"', b'"other"'),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_said_and_made_anew(damage: str, tmp_path: Path, samples: list[Sample[int]]) -> None:
    folder, said = tmp_path / "cache", list[str]()
    expected = np.array(cached_split(folder, samples, 24, "crop").images)
    entry = only_entry(folder)
    assert json.loads((entry / "index.json").read_bytes()) == json.loads(INDEX)
    DAMAGES[damage](entry)
    found = cached_split(folder, samples, 24, "crop", say=said.append)
    assert said == ["the image cache was damaged and is made anew"]
    assert np.array_equal(found.images, expected)
    assert cached_split(folder, samples, 24, "crop", say=said.append).kept == (0, 1, 2, 3, 4)
    assert len(said) == 1
    assert [path.name for path in folder.iterdir()] == [entry.name]


def test_another_process_may_have_made_the_cache_meanwhile(
    tmp_path: Path, samples: list[Sample[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = cache_module.open_square
    inner: list[np.ndarray] = []

    def slow(path: Path, size: int, rule: str) -> object:
        if not inner:
            inner.append(np.zeros(0))
            inner.append(cached_split(tmp_path / "cache", samples, 24, "crop").images)
        return decode(path, size, rule)

    monkeypatch.setattr(cache_module, "open_square", slow)
    monkeypatch.setattr(cache_module, "usable_processors", lambda: 1)
    outer = cached_split(tmp_path / "cache", samples, 24, "crop").images
    assert np.array_equal(outer, inner[1])
    only_entry(tmp_path / "cache")


def test_the_cache_of_masks_is_looked_at_too(tmp_path: Path) -> None:
    root = write_masked_set(tmp_path / "set", {"train": 3, "val": 1})
    found = read_as(Mask, DataConfig(name="set", path="x"), root).splits["train"]
    folder, said = tmp_path / "cache", list[str]()
    expected = np.array(cached_masks(folder, found, 16, "stretch"))
    os.truncate(only_entry(folder) / "rows.u8", 10)
    assert np.array_equal(cached_masks(folder, found, 16, "stretch", say=said.append), expected)
    assert said == ["the mask cache was damaged and is made anew"]


def test_a_mask_that_is_gone_is_one_clear_error(tmp_path: Path) -> None:
    root = write_masked_set(tmp_path / "set", {"train": 3, "val": 1})
    found = read_as(Mask, DataConfig(name="set", path="x"), root).splits["train"]
    (root / "train" / "masks" / "001.png").unlink()
    with pytest.raises(DataError, match=r"001\.png cannot be read as a mask: No such file"):
        cached_masks(tmp_path / "cache", found, 16, "stretch")
    assert not (tmp_path / "cache").exists()


def test_training_says_that_a_cache_was_damaged(tmp_path: Path) -> None:
    root = write_masked_set(tmp_path / "set", {"train": 3, "val": 1})
    task, told = task_for("segmentation"), io.StringIO()
    dataset, display = task.read(DataConfig(name="set", path="x"), root), Display(Console(file=told, width=200))
    for _ in range(2):
        load_split(dataset, "train", task, tmp_path / "cache", 16, "stretch", display)
        for entry in (tmp_path / "cache").iterdir():
            os.truncate(entry / "rows.u8", 7)
    assert told.getvalue().splitlines() == [
        f"the {kind} cache was damaged and is made anew" for kind in ("image", "mask")
    ]
