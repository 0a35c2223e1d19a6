"""The decoded-image cache: same bytes as inference graph_inputs, made once, never half."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data import cache as cache_module
from nanocv_cli.data import row_cache
from nanocv_cli.data.cache import cached_split
from nanocv_cli.data.dataset import Sample
from nanocv_cli.data.formats.table import read_as
from nanocv_cli.data.labels.masks import Mask, cached_masks
from nanocv_cli.data.row_cache import is_whole
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
    assert cached.rows.shape == (5, 24, 24, 3)
    assert cached.rows.dtype == np.uint8
    for image, sample in zip(cached.rows, samples, strict=True):
        assert np.array_equal(image, resize_to_square(open_image(sample.path), 24, "crop"))


def test_it_is_made_once(tmp_path: Path, samples: list[Sample[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    cached_split(tmp_path / "cache", samples, 24, "crop", lambda done, total: calls.append((done, total)))
    assert calls[-1] == (5, 5)
    monkeypatch.setattr(cache_module, "open_square", lambda *_: pytest.fail("decoded again"))
    assert len(cached_split(tmp_path / "cache", samples, 24, "crop").rows) == 5


def test_another_size_rule_or_content_is_another_cache(tmp_path: Path, samples: list[Sample[int]]) -> None:
    folder = tmp_path / "cache"
    cached_split(folder, samples, 24, "crop")
    cached_split(folder, samples, 32, "crop")
    cached_split(folder, samples, 24, "stretch")
    assert len(list(folder.iterdir())) == 3
    before = cached_split(folder, samples, 24, "crop").rows[0].copy()
    draw_class_image("blue", 77).save(samples[0].path)
    os.utime(samples[0].path, ns=(1, 1))
    assert not np.array_equal(cached_split(folder, samples, 24, "crop").rows[0], before)


def test_unreadable_images_are_left_out_and_named(tmp_path: Path, samples: list[Sample[int]]) -> None:
    samples[1].path.write_bytes(samples[1].path.read_bytes()[:60])
    samples[3].path.write_bytes(b"")
    cached = cached_split(tmp_path / "cache", samples, 24, "crop")
    assert cached.kept is not None and cached.kept.tolist() == [0, 2, 4]
    assert [path for path, _ in cached.unreadable] == [str(samples[1].path), str(samples[3].path)]
    assert np.array_equal(cached.rows[2], resize_to_square(open_image(samples[2].path), 24, "crop"))


def test_nothing_readable_is_an_error_and_leaves_no_cache(tmp_path: Path, samples: list[Sample[int]]) -> None:
    for sample in samples:
        sample.path.write_bytes(b"junk")
    with pytest.raises(DataError, match="not one of 5 images is readable"):
        cached_split(tmp_path / "cache", samples, 24, "crop")
    assert not list((tmp_path / "cache").iterdir())


def test_a_killed_writer_leaves_nothing_under_the_caches_name(
    tmp_path: Path, samples: list[Sample[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, size: int, rule: str) -> np.ndarray:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cache_module, "open_square", killed)
        cached_split(tmp_path / "cache", samples, 24, "crop")
    assert len(cached_split(tmp_path / "cache", samples, 24, "crop").rows) == 5


def test_a_cache_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path, samples: list[Sample[int]]) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"the image cache: .*file"):
        cached_split(tmp_path / "file" / "cache", samples, 24, "crop")


def only_entry(folder: Path) -> Path:
    (entry,) = folder.iterdir()
    return entry


def replaced(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "rows cut": lambda entry: os.truncate(entry / "rows.u8", 1000),
    "rows empty": lambda entry: os.truncate(entry / "rows.u8", 0),
    "rows gone": lambda entry: (entry / "rows.u8").unlink(),
    "rows a pipe": lambda entry: as_pipe(entry / "rows.u8"),
    "rows of zeros": lambda entry: replaced(entry / "rows.u8", bytes(8640)),
    "entry a file": lambda entry: (shutil.rmtree(entry), entry.write_bytes(b"x")),
    "entry a link to nothing": lambda entry: (shutil.rmtree(entry), entry.symlink_to("nowhere")),
    "records gone": lambda entry: (shutil.rmtree(entry / "parts"), (entry / "index.json").write_bytes(b"")),
    "records junk": lambda entry: (replaced(entry / "parts" / "000000.json", b"{"), (entry / "rows.u8").touch()),
    "records a file": lambda entry: (
        shutil.rmtree(entry / "parts"), replaced(entry / "parts", b""), (entry / "rows.u8").touch()),
}  # fmt: skip
MENDED: dict[str, Callable[[Path], object]] = {
    "rows longer": lambda entry: os.truncate(entry / "rows.u8", 100_000),
    "rows touched": lambda entry: os.utime(entry / "rows.u8", ns=(1, 1)),
    "index gone": lambda entry: (entry / "index.json").unlink(),
    "index a pipe": lambda entry: as_pipe(entry / "index.json"),
    "index a folder": lambda entry: ((entry / "index.json").unlink(), (entry / "index.json").mkdir()),
    **{
        content.decode(errors="replace")[:40]: lambda entry, content=content: replaced(entry / "index.json", content)  # type: ignore[misc]
        for content in (
            b"", b"\xff", b"{", b"[]", b"null", b"[" * 100_000, b'{"count": 4, "modified": 1, "left_out": []}',
            b'{"count": 5, "modified": 1, "left_out": [[9, "x"]]}', b'{"count": 5, "other": 1, "left_out": []}',
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_damaged_is_said_and_made_anew(damage: str, tmp_path: Path, samples: list[Sample[int]]) -> None:
    folder, said = tmp_path / "cache", list[str]()
    expected = np.array(cached_split(folder, samples, 24, "crop").rows)
    entry = only_entry(folder)
    DAMAGES[damage](entry)
    found = cached_split(folder, samples, 24, "crop", say=said.append)
    assert said == ["the image cache was damaged: 1 of 1 parts are made anew"]
    assert np.array_equal(found.rows, expected)
    assert cached_split(folder, samples, 24, "crop", say=said.append).kept is None
    assert len(said) == 1
    assert [path.name for path in folder.iterdir()] == [entry.name]


@pytest.mark.parametrize("damage", MENDED)
def test_rows_that_fit_their_checksums_are_kept(
    damage: str, tmp_path: Path, samples: list[Sample[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, said = tmp_path / "cache", list[str]()
    expected = np.array(cached_split(folder, samples, 24, "crop").rows)
    MENDED[damage](only_entry(folder))
    monkeypatch.setattr(cache_module, "open_square", lambda *_: pytest.fail("decoded again"))
    assert np.array_equal(cached_split(folder, samples, 24, "crop", say=said.append).rows, expected)
    assert not said and is_whole(only_entry(folder))


@pytest.fixture
def parts_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_cache, "FEWEST_ROWS", 2)
    monkeypatch.setattr(row_cache, "PART_BYTES", 1)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of images as they are decoded, one at a time."""
    found: list[str] = []
    decode = cache_module.open_square

    def noted(path: Path, size: int, rule: str) -> object:
        found.append(path.stem)
        return decode(path, size, rule)

    monkeypatch.setattr(cache_module, "open_square", noted)
    monkeypatch.setattr(row_cache, "usable_processors", lambda: 1)
    return found


def test_a_damaged_part_is_made_anew_alone(
    tmp_path: Path, samples: list[Sample[int]], parts_of_two: None, decoded: list[str]
) -> None:
    folder, said = tmp_path / "cache", list[str]()
    expected = np.array(cached_split(folder, samples, 24, "crop").rows)
    with (only_entry(folder) / "rows.u8").open("r+b") as rows:
        rows.seek(2 * 24 * 24 * 3)
        rows.write(b"damage")
    assert np.array_equal(cached_split(folder, samples, 24, "crop", say=said.append).rows, expected)
    assert said == ["the image cache was damaged: 1 of 3 parts are made anew"]
    assert decoded == ["0", "1", "2", "3", "4", "2", "3"]


def test_a_killed_caching_goes_on_with_the_parts_that_are_missing(
    tmp_path: Path, samples: list[Sample[int]], parts_of_two: None, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, said, steps = tmp_path / "cache", list[str](), list[int]()
    noted = cache_module.open_square

    def killed(path: Path, size: int, rule: str) -> object:
        if path.stem == "4":
            raise KeyboardInterrupt
        return noted(path, size, rule)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cache_module, "open_square", killed)
        cached_split(folder, samples, 24, "crop")
    assert decoded == ["0", "1", "2", "3"] and not is_whole(only_entry(folder))
    rows = cached_split(folder, samples, 24, "crop", lambda done, _: steps.append(done), said.append).rows
    assert said == ["the image cache was left unfinished: 1 of 3 parts are still to be made"]
    assert decoded[4:] == ["4"] and steps == [5]
    assert np.array_equal(rows, cached_split(tmp_path / "other", samples, 24, "crop").rows)


HELPER = """
import sys
from pathlib import Path
from nanocv_cli.data import cache, row_cache
from nanocv_cli.data.dataset import Sample
row_cache.FEWEST_ROWS, row_cache.PART_BYTES, decoded, decode = 2, 1, [], cache.open_square
def noted(path, *rest):
    if not decoded:
        print("begun", flush=True)
        sys.stdin.readline()
    decoded.append(path.stem)
    return decode(path, *rest)
cache.open_square = noted
row_cache.usable_processors = lambda: 1
cache.cached_split(Path("cache"), [Sample(Path(f"{i}.png"), i) for i in range(5)], 24, "crop")
print(*decoded)
"""


@pytest.mark.parametrize("is_killed", [False, True])
def test_two_processes_make_a_cache_together(
    is_killed: bool,
    tmp_path: Path,
    samples: list[Sample[int]],
    parts_of_two: None,
    decoded: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other one has claimed the first part, and waits; this one makes the rest, then waits for it, or its end."""
    expected = np.array(cached_split(tmp_path / "alone", samples, 24, "crop").rows)
    decoded.clear()
    command = [sys.executable, "-c", HELPER]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin and other.stdout and other.stdout.readline() == "begun\n"
        noted = cache_module.open_square

        def ending(path: Path, size: int, rule: str) -> object:
            if path.stem == "4" and is_killed:
                other.kill()
                other.wait()
            elif path.stem == "4":
                print(file=other.stdin, flush=True)
            return noted(path, size, rule)

        monkeypatch.setattr(cache_module, "open_square", ending)
        rows = cached_split(tmp_path / "cache", samples, 24, "crop").rows
        assert other.stdout.read() == ("" if is_killed else "0 1\n")
    assert decoded == (["2", "3", "4", "0", "1"] if is_killed else ["2", "3", "4"])
    assert np.array_equal(rows, expected)


def test_a_disk_without_room_is_said_before_the_work(
    tmp_path: Path, samples: list[Sample[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=8639)
    monkeypatch.setattr(row_cache.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match=r"the image cache: 0\.0 GB are needed in .*, 0\.0 GB are free") as failure:
        cached_split(tmp_path / "cache", samples, 24, "crop")
    assert "data.cache_gb=0" in failure.value.hint


def test_the_cache_of_masks_is_looked_at_too(tmp_path: Path) -> None:
    root = write_masked_set(tmp_path / "set", {"train": 3, "val": 1})
    found = read_as(Mask, DataConfig(name="set", path="x"), root).splits["train"]
    folder, said = tmp_path / "cache", list[str]()
    expected = np.array(cached_masks(folder, found, 16, "stretch"))
    os.truncate(only_entry(folder) / "rows.u8", 10)
    assert np.array_equal(cached_masks(folder, found, 16, "stretch", say=said.append), expected)
    assert said == ["the mask cache was damaged: 1 of 1 parts are made anew"]


def test_a_mask_that_is_gone_is_one_clear_error(tmp_path: Path) -> None:
    root = write_masked_set(tmp_path / "set", {"train": 3, "val": 1})
    found = read_as(Mask, DataConfig(name="set", path="x"), root).splits["train"]
    (root / "train" / "masks" / "001.png").unlink()
    with pytest.raises(DataError, match=r"001\.png cannot be read as a mask: No such file"):
        cached_masks(tmp_path / "cache", found, 16, "stretch")


def test_training_says_that_a_cache_was_damaged(tmp_path: Path) -> None:
    root = write_masked_set(tmp_path / "set", {"train": 3, "val": 1})
    task, told = task_for("segmentation"), io.StringIO()
    dataset, display = task.read(DataConfig(name="set", path="x"), root), Display(Console(file=told, width=200))
    for _ in range(2):
        load_split(dataset, "train", task, tmp_path / "cache", 16, "stretch", display)
        for entry in (tmp_path / "cache").iterdir():
            os.truncate(entry / "rows.u8", 7)
    assert told.getvalue().splitlines() == [
        f"the {kind} cache was damaged: 1 of 1 parts are made anew" for kind in ("image", "mask")
    ]


def test_an_image_that_has_gone_since_the_set_was_listed_is_not_kept_as_unreadable(
    tmp_path: Path, samples: list[Sample[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = cache_module.open_square

    def gone(path: Path, size: int, resize: str) -> object:
        aside = path.with_suffix(".aside")
        if path != samples[2].path:
            return decode(path, size, resize)
        path.rename(aside)
        try:
            return decode(path, size, resize)
        finally:
            aside.rename(path)

    with monkeypatch.context() as patch, pytest.raises(DataError, match=r"2\.png was there when the set was listed"):
        patch.setattr(cache_module, "open_square", gone)
        cached_split(tmp_path / "cache", samples, 24, "crop")
    assert cached_split(tmp_path / "cache", samples, 24, "crop").unreadable == ()


def test_an_image_that_was_never_there_is_left_out(tmp_path: Path, samples: list[Sample[int]]) -> None:
    absent = Sample(tmp_path / "absent.png", 0)
    cached = cached_split(tmp_path / "cache", [*samples, absent], 24, "crop")
    assert [path for path, _ in cached.unreadable] == [str(absent.path)]
