"""Images of an object store: which URLs are taken, what is listed, which failures are an image's fault."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from nanocv_cli.errors import DataError, MissingExtraError, RequestError
from nanocv_cli.images import remote_files
from nanocv_cli.images.image_file import UnreadableImageError
from nanocv_cli.images.remote_files import RemoteFile, expect_store, opened_store, remote_images
from nanocv_cli.images.resize import open_image
from nanocv_cli.images.sources import Images, source_at
from tests.images.image_bytes import write_image


class Bucket(MemoryFileSystem):
    """A store in memory that bears S3's name."""

    protocol = "s3"
    store: ClassVar[dict[str, object]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    refuses = False

    def find(self, path: str, *arguments: object, **options: object) -> list[str]:
        if type(self).refuses:
            raise PermissionError("Unable to locate credentials")
        found: list[str] = super().find(path, *arguments, **options)
        return found

    def open(self, path: str, *arguments: object, **options: object) -> object:
        if type(self).refuses:
            raise PermissionError("Unable to locate credentials")
        return super().open(path, *arguments, **options)


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """`s3://photos` with images, hidden and other files."""
    monkeypatch.setattr(remote_files, "_store", remote_files._store.__wrapped__)  # what is opened here is not kept
    monkeypatch.setattr(fsspec, "filesystem", lambda scheme, **options: Bucket(**options))
    store = Bucket()
    content = write_image(tmp_path / "red.png").read_bytes()
    for name in ("b.png", "a/c.JPG", "a/.hidden.png", ".cache/d.png", "notes.csv"):
        store.pipe(f"/photos/{name}", content)
    monkeypatch.setattr(Bucket, "refuses", False)
    yield store
    store.store.clear()


def test_what_lies_below_a_url_in_order_without_hidden_and_other_files(bucket: Bucket) -> None:
    assert [source.shown for source in Images(["s3://photos"])] == ["s3://photos/a/c.JPG", "s3://photos/b.png"]
    assert remote_images("s3://photos/a/") == ["s3://photos/a/c.JPG"]
    (source,) = Images(["s3://photos/b.png"])
    assert open_image(source.file).shape == (16, 20, 3)
    assert source_at(source.place) == source
    with pytest.raises(RequestError, match="no images in"):
        remote_images("s3://photos/.cache")


def test_a_missing_or_large_object_is_the_images_fault(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadableImageError, match="no such object"):
        RemoteFile("s3://photos/none.png").read()
    monkeypatch.setattr(remote_files, "LARGEST_REMOTE", 20)
    with pytest.raises(UnreadableImageError, match="larger than"):
        RemoteFile("s3://photos/b.png").read()


def test_a_store_without_credentials_is_no_fault_of_an_image(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bucket, "refuses", True)
    with pytest.raises(DataError, match="cannot be listed: Unable to locate credentials") as listed:
        remote_images("s3://photos")
    assert "credentials" in listed.value.hint
    with pytest.raises(DataError, match="cannot be fetched") as fetched:
        RemoteFile("s3://photos/b.png").read()
    assert not isinstance(fetched.value, UnreadableImageError)


@pytest.mark.parametrize(
    "url",
    ["http://host/a.png", "zip://a.png::s3://b/c", "s3://", "S3://bucket/a", "s3:///", "gopher://[", "memory://a/b"],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(RequestError, match="no images can be read from"):
        expect_store(url)


@pytest.mark.parametrize("missing", ["gcsfs", "fsspec"])
def test_a_store_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match="gs:// is read by gcsfs, which is not installed") as caught:
        Images(["gs://bucket/photos"])
    assert caught.value.hint == "pip install gcsfs"


def test_threads_share_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(remote_files.PACKAGES, "memory", "fsspec")
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(opened_store, "memory", 5.0).result()
    assert opened_store("memory", 5.0) is other
    assert fsspec.filesystem("memory") is not other


def test_a_request_to_a_store_has_a_bound(bucket: Bucket) -> None:
    options = opened_store("s3", 5.0).storage_options
    assert options["config_kwargs"] == {"connect_timeout": 5.0, "read_timeout": 5.0}
