"""Tar shards are read as the files that they hold are, here and behind a URL; each fault of one is a line."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data import ranged, shard_index
from nanocv_cli.data.check import check_dataset
from nanocv_cli.data.dataset import Dataset
from nanocv_cli.data.formats.shards import LAYOUT
from nanocv_cli.data.formats.table import guess_format, read_as, read_labels
from nanocv_cli.data.labels.base import ClassLabel
from nanocv_cli.data.sources import image_folder
from nanocv_cli.display import Display
from nanocv_cli.errors import DataError, NanocvError, RequestError
from nanocv_cli.evaluation.evaluate import load_split
from nanocv_cli.images import remote_files
from nanocv_cli.images.resize import open_square
from nanocv_cli.tasks.table import task_for
from tests.conftest import write_tiny_set
from tests.data.shards import served, shards_of, write_shard

NAMES = ("train-{000000..000001}.tar", "val-000000.tar")
SIZE = 24


@pytest.fixture
def images(project: Path) -> Path:
    return write_tiny_set(project / "images", {"train": 4, "val": 2})


@pytest.fixture
def folder(project: Path, images: Path) -> Path:
    return shards_of(images, project / "set", 7)


def config(path: str | Path, shards: tuple[str, ...] | None = None, **more: Any) -> DataConfig:
    return DataConfig(name="set", path=str(path), format="shards", shards=shards, **more)


def read(found: DataConfig) -> Dataset[ClassLabel]:
    return read_as(ClassLabel, found, image_folder(found, Path.cwd(), Display()))


def content(dataset: Dataset[ClassLabel], split: str, cache_gb: float) -> tuple[np.ndarray, list[int]]:
    bounded = Dataset(dataset.name, dataset.root, dataset.classes, dataset.splits, cache_gb=cache_gb)
    loaded = load_split(bounded, split, task_for("classification"), Path("cache"), SIZE, "crop", Display())
    return loaded.images[:], [int(target) for target in loaded.targets]


def expected(images: Path, split: str) -> np.ndarray:
    return np.stack([open_square(path, SIZE, "crop")[0] for path in sorted((images / split).glob("*/*"))])


def test_shards_hold_what_their_files_do(images: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert guess_format(folder) == "shards" and guess_format(images) == "class_folders"
    found = read_labels(DataConfig(name="set", path="set"), folder)
    assert found.classes == ("blue", "green", "red")
    assert next(str(sample.path) for sample in found.split("val")) == str(folder / "val-000000.tar" / "blue-000.png")
    for split, count in (("train", 12), ("val", 6)):
        for cache_gb in (0.0, 1.0):
            rows, targets = content(found, split, cache_gb)
            assert np.array_equal(rows, expected(images, split))
            assert targets == [number for number in range(3) for _ in range(count // 3)]
    assert not [problem for problem in check_dataset(found) if problem.level == "error"]
    # A shard is gone through once; one that has changed, or whose index is damaged, again.
    gone_through: list[str] = []
    original = shard_index._samples
    monkeypatch.setattr(
        shard_index, "_samples", lambda archive, file: gone_through.append(file.place) or original(archive, file)
    )
    again = read(config(folder))
    assert again.fingerprint() == found.fingerprint() and not gone_through
    write_shard(folder / "val-000000.tar", [("k.png", (images / "val/red/000.png").read_bytes()), ("k.cls", b"red")])
    damaged = sorted(Path(".cache/nanocv/shards").iterdir())[0]
    damaged.write_bytes(damaged.read_bytes().replace(b"blue-0", b"blue-1"))
    assert len(read(config(folder)).split("val")) == 1
    assert len(set(gone_through)) == len(gone_through) and 1 <= len(gone_through) <= 2
    assert str(folder / "val-000000.tar") in gone_through


def test_folders_name_splits_and_numbers_name_classes(project: Path, images: Path) -> None:
    png = (images / "train/red/000.png").read_bytes()
    pairs = [(f"a/{n}{suffix}", data) for n, label in enumerate((b"10", b"2\n"))
             for suffix, data in ((".rgb.json", b"{}"), (".PNG", png), (".cls", label))]  # fmt: skip
    for split in ("train", "valid"):
        write_shard(project / "numbers" / split / "000.tar", pairs)
    dataset = read(config("numbers"))
    assert dataset.classes == ("2", "10")
    assert [sample.label.index for sample in dataset.split("val")] == [1, 0]
    names = tuple("abcdefghijk")
    named = read(config("numbers", classes=names))
    assert named.classes == names and [sample.label.index for sample in named.split("train")] == [10, 2]
    with pytest.raises(DataError, match="a label says '2', which is none of 2 classes"):
        read(config("numbers", classes=("a", "b")))


def test_hidden_members_are_passed_over(project: Path, images: Path) -> None:
    png = (images / "train/red/000.png").read_bytes()
    # As macOS' tar writes them: what a file system there knows of a file goes before it.
    members = [(f"{hidden}{key}{suffix}", b"\0\5\26\7" if hidden else data)
               for key, label in (("a", b"red"), ("b", b"blue"))
               for suffix, data in ((".png", png), (".cls", label)) for hidden in ("._", "")]  # fmt: skip
    for split in ("train", "val"):
        write_shard(project / f"mac/{split}-0.tar", [*members, (".trash/c.png", png)])
    dataset = read(config("mac"))
    assert [sample.path.name for sample in dataset.split("val")] == ["a.png", "b.png"]
    assert content(dataset, "val", 0.0)[1] == [1, 0]


def test_parts_are_read_from_a_server(images: Path, folder: Path) -> None:
    with served(folder) as (url, asked):
        dataset = read(config(url, NAMES))
        rows, _ = content(dataset, "train", 0.0)
        assert np.array_equal(rows, expected(images, "train"))
        lengths = {path.stat().st_size for path in images.glob("train/*/*")}
        parts = [int(last) - int(first) + 1 for first, last in (one[6:].split("-") for one in asked)]
        assert lengths <= set(parts)
        count = len(asked)
        read(config(url, NAMES))
        assert len(asked) == count + 3  # that it answers ranges is asked of each shard, its members are known
        with pytest.raises(DataError, match=r"val-000009\.tar cannot be read: 404"):
            read(config(url, ("train-000000.tar", "val-000009.tar")))
    with pytest.raises(DataError, match=r":9/train-000000\.tar cannot be read: .*Cannot connect"):
        read(config("http://127.0.0.1:9", NAMES))


def test_an_image_behind_a_url_is_named_by_that_url(
    folder: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    png = (images / "val/red/000.png").read_bytes()
    write_shard(folder / "val-000000.tar", [("a.png", png), ("a.cls", b"red"), ("b.png", b"x"), ("b.cls", b"red")])
    with served(folder) as (url, _):
        dataset = read(config(url, NAMES))
        name = f"{url}/val-000000.tar/b.png"
        (lost,) = (found for found in check_dataset(dataset) if found.kind == "unreadable")
        assert lost.paths == (name,) and lost.message.startswith(f"val: {name}: ")
        with pytest.raises(DataError) as failure:
            content(dataset, "val", 0.0)
        assert failure.value.message.startswith(f"{name}: ")
        content(dataset, "val", 1.0)
        assert f"left out of val: {name}: " in capsys.readouterr().err


@pytest.fixture
def store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The shards in a store of fsspec's, at `memory://bucket`."""
    monkeypatch.setitem(ranged.PACKAGES, "memory", "fsspec")
    found = fsspec.filesystem("memory")
    for path in folder.iterdir():
        found.pipe_file(f"/bucket/{path.name}", path.read_bytes())
    return found


def test_parts_are_read_from_any_store(images: Path, store: Any) -> None:
    dataset = read(config("memory://bucket", NAMES))
    assert np.array_equal(content(dataset, "val", 0.0)[0], expected(images, "val"))


@pytest.mark.parametrize("failures", [2, 3])
def test_a_pass_that_the_network_fails_is_tried_three_times(
    images: Path, store: Any, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("connection reset")

    opened: list[str] = []
    kind = type(store)
    working = kind.open

    def opening(store: Any, place: str, *more: Any, **keys: Any) -> Any:
        opened.append(place)
        return Broken() if opened.count(place) <= failures else working(store, place, *more, **keys)

    monkeypatch.setattr(ranged, "PAUSE", 0.0)
    monkeypatch.setattr(kind, "open", opening)
    wanted = config("memory://bucket", NAMES)
    if failures < 3:
        assert [len(read(wanted).split(split)) for split in ("train", "val")] == [12, 6]
    else:
        with pytest.raises(DataError, match=r"train-000000\.tar cannot be read: connection reset"):
            read(wanted)
    assert opened.count("memory://bucket/train-000000.tar") == 3


def test_a_server_without_ranges_or_answer_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        served(folder, ranges=False) as (url, _),
        pytest.raises(DataError, match="not answer requests for a part"),
    ):
        read(config(url, NAMES))
    monkeypatch.setattr(ranged, "TIMEOUT", 0.2)
    with (
        served(folder, is_silent=True) as (url, _),
        pytest.raises(DataError, match=r"tar does not answer within 0\.2 s"),
    ):
        read(config(url, NAMES))


def _cut_label(folder: Path) -> None:
    path = folder / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:5000])


def _cut_image(folder: Path) -> None:
    path = folder / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:520])


def _no_label(folder: Path) -> None:
    write_shard(folder / "val-000000.tar", [("a.jpg", b"x"), ("a.cls", b"red"), ("b.jpg", b"x"), ("c.cls", b"red")])


def _no_image(folder: Path) -> None:
    write_shard(folder / "val-000000.tar", [("a.cls", b"red"), ("b.jpg", b"x"), ("b.cls", b"red")])


def _no_text(folder: Path) -> None:
    write_shard(folder / "val-000000.tar", [("a.jpg", b"x"), ("a.cls", b"\0\1")])


def _no_archive(folder: Path) -> None:
    (folder / "val-000000.tar").write_bytes(b"no archive" * 100)


def _two_labels(folder: Path) -> None:
    write_shard(folder / "val-000000.tar", [("a.cls", b"red"), ("a.jpg", b"x"), ("a.top.cls", b"blue")])


def _twice(folder: Path) -> None:
    pair = [("a.jpg", b"x"), ("a.cls", b"red")]
    write_shard(folder / "val-000000.tar", [*pair, ("b.txt", b""), *pair])


def _no_val(folder: Path) -> None:
    (folder / "val-000000.tar").unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_cut_label, r"train-000001\.tar: it is cut short, at .*\.cls, whose content begins at byte 4,608 of 5,000"),
        (_cut_image, r"train-000001\.tar: it is cut short, at .*\.png, whose content begins at byte 512 of 520"),
        (_no_label, r"val-000000\.tar: b\.jpg has no label: no b\.cls beside it"),
        (_no_image, r"val-000000\.tar: a\.cls has no image beside it"),
        (_no_text, r"val-000000\.tar: a\.cls says no class"),
        (_no_archive, r"val-000000\.tar: "),
        (_two_labels, r"val-000000\.tar: a\.top\.cls is a second label of a$"),
        (_twice, r"val-000000\.tar: a name stands there twice"),
        (_no_val, r"no shards of val"),
    ],
)
def test_a_faulty_shard_is_named(folder: Path, harm: Callable[[Path], None], message: str) -> None:
    harm(folder)
    with pytest.raises(DataError, match=message) as failure:
        read(config(folder))
    assert "\n" not in failure.value.message and failure.value.hint


def test_a_folder_without_shards_is_named(folder: Path) -> None:
    for path in folder.iterdir():
        path.rename(path.with_name(f"photos-{path.name}"))
    for reading in (read, lambda found: read_labels(found, folder)):
        with pytest.raises(DataError, match=r"no (shards|class labels) (in|under) .*/set$") as failure:
            reading(config(folder))
        assert failure.value.hint == f"expected {LAYOUT}"


def test_a_shard_that_is_cut_while_it_is_used_is_named(folder: Path) -> None:
    dataset = read(config(folder))
    (folder / "train-000001.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"train-000001\.tar: 0 of [\d,]+ bytes could be read from byte") as failure:
        content(dataset, "train", 0.0)
    assert "--resume" in failure.value.hint


@pytest.mark.parametrize(
    ("path", "shards", "message"),
    [
        ("https://host/set", None, "which shards are below https://host/set has to be said"),
        ("https://host/set", ("../train-0.tar",), "is no name below data.path"),
        ("https://host/set", ("0.tar",), "tells no split"),
        ("https://host/set", ("train-{0..1}.tar", "train-1.tar"), "names a shard twice"),
        ("https://host/set", ("train-{0..999999999}.tar",), "names more than 100,000"),
        ("https://host/set", ("train-{3..1}.tar",), r"\{3\.\.1\} counts backwards"),
        ("https://host/set", ("train-{0..999999999}{1..0}.tar",), r"\{1\.\.0\} counts backwards"),
        ("nowhere://host/set", ("train-0.tar",), "no shards can be read from nowhere://host"),
    ],
)
def test_a_request_that_names_no_shards_is_refused(
    project: Path, path: str, shards: tuple[str, ...] | None, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        read(config(path, shards))


def test_a_url_of_another_format_is_refused(project: Path) -> None:
    with pytest.raises(RequestError, match="where nanocv reads shards alone"):
        image_folder(DataConfig(name="set", path="https://host/set"), project, Display())


def test_s3_without_its_package_or_credentials_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = config("s3://bucket/set", NAMES)
    monkeypatch.setattr(remote_files, "_store", remote_files._store.__wrapped__)  # what is opened here is not kept
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "s3fs", None)
        with pytest.raises(NanocvError, match="s3:// is read by s3fs, which is not installed") as failure:
            read(wanted)
        assert failure.value.hint == "pip install s3fs"

    class NoCredentialsError(Exception):
        """As botocore's."""

    class Store:
        def info(self, path: str) -> None:
            raise NoCredentialsError("Unable to locate credentials")

    monkeypatch.setattr(fsspec, "filesystem", lambda scheme, **bounds: Store())
    with pytest.raises(DataError, match=r"s3://bucket/set/train-000000\.tar .*Unable to locate") as told:
        read(wanted)
    assert "AWS_ACCESS_KEY_ID" in told.value.hint
