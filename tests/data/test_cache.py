"""The decoded-picture cache: same bytes as inference feeds, made once, never half."""

import os
from pathlib import Path

import numpy as np
import pytest

from nanocv_cli.data import cache as cache_module
from nanocv_cli.data.cache import cached_split
from nanocv_cli.data.dataset import Sample
from nanocv_cli.errors import DataError, StorageError
from nanocv_cli.inference.images import open_image, resize_to_square
from tests.conftest import draw_class_picture


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample[int]]:
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for i, path in enumerate(paths):
        draw_class_picture("red", i).save(path)
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
    monkeypatch.setattr(cache_module, "open_image", lambda path: pytest.fail("decoded again"))
    assert len(cached_split(tmp_path / "cache", samples, 24, "crop").images) == 5


def test_another_size_rule_or_content_is_another_cache(tmp_path: Path, samples: list[Sample[int]]) -> None:
    folder = tmp_path / "cache"
    cached_split(folder, samples, 24, "crop")
    cached_split(folder, samples, 32, "crop")
    cached_split(folder, samples, 24, "stretch")
    assert len(list(folder.iterdir())) == 3
    before = cached_split(folder, samples, 24, "crop").images[0].copy()
    draw_class_picture("blue", 77).save(samples[0].path)
    os.utime(samples[0].path, ns=(1, 1))
    assert not np.array_equal(cached_split(folder, samples, 24, "crop").images[0], before)


def test_unreadable_pictures_are_left_out_and_named(tmp_path: Path, samples: list[Sample[int]]) -> None:
    samples[1].path.write_bytes(samples[1].path.read_bytes()[:60])
    samples[3].path.write_bytes(b"")
    cached = cached_split(tmp_path / "cache", samples, 24, "crop")
    assert cached.kept == (0, 2, 4)
    assert [path for path, _ in cached.unreadable] == [str(samples[1].path), str(samples[3].path)]
    assert np.array_equal(cached.images[1], resize_to_square(open_image(samples[2].path), 24, "crop"))


def test_nothing_readable_is_an_error_and_leaves_no_cache(tmp_path: Path, samples: list[Sample[int]]) -> None:
    for sample in samples:
        sample.path.write_bytes(b"junk")
    with pytest.raises(DataError, match="not one of 5 pictures is readable"):
        cached_split(tmp_path / "cache", samples, 24, "crop")
    assert not list((tmp_path / "cache").iterdir())


def test_a_killed_writer_leaves_nothing_under_the_caches_name(
    tmp_path: Path, samples: list[Sample[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path) -> np.ndarray:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cache_module, "open_image", killed)
        cached_split(tmp_path / "cache", samples, 24, "crop")
    assert len(cached_split(tmp_path / "cache", samples, 24, "crop").images) == 5


def test_a_cache_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path, samples: list[Sample[int]]) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="the picture cache: cannot write"):
        cached_split(tmp_path / "file" / "cache", samples, 24, "crop")
