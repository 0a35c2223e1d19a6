"""The runtime for browsers: fetched once by npm, held against its hash, taken from a file where one is named."""

import os
from pathlib import Path

import pytest

from nanocv_cli.errors import ModelError, NanocvError, RequestError, ServingError
from nanocv_cli.web.runtime import PACKAGE, VERSION, runtime_files
from tests.web.packages import MODULE, WASM, publish, write_package

EXPECTED = {"onnxruntime.js": MODULE, "onnxruntime.wasm": WASM}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The published package."""
    path = write_package(tmp_path / "published.tgz")
    publish(monkeypatch, path)
    return path


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands alone on `PATH`; what `npm` in it does is up to the test."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def write_npm(folder: Path, body: str) -> None:
    script = folder / "npm"
    script.write_text(f"#!/bin/sh\nexport PATH=/usr/bin:/bin\n{body}\n")
    script.chmod(0o755)


def bringing(package: Path, calls: Path) -> str:
    """An npm that packs a file, and notes with what it was called."""
    return f'echo "$@" >> {calls}\ncp {package} "$4/{PACKAGE}-{VERSION}.tgz"'


def test_npm_fetches_it_once_and_runs_no_script_of_it(package: Path, npm: Path, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    write_npm(npm, bringing(package, calls))
    assert runtime_files(tmp_path / "cache") == EXPECTED
    (npm / "npm").unlink()
    assert runtime_files(tmp_path / "cache") == EXPECTED
    (call,) = calls.read_text().splitlines()
    assert call.startswith("pack --ignore-scripts ") and call.endswith(f" {PACKAGE}@{VERSION}")


def test_what_is_damaged_in_the_cache_is_fetched_again(package: Path, npm: Path, tmp_path: Path) -> None:
    write_npm(npm, bringing(package, tmp_path / "calls"))
    runtime_files(tmp_path / "cache")
    (kept,) = (tmp_path / "cache" / "web").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    assert runtime_files(tmp_path / "cache") == EXPECTED
    assert kept.read_bytes() == package.read_bytes()


def test_another_package_than_was_published_is_neither_used_nor_kept(package: Path, npm: Path, tmp_path: Path) -> None:
    other = write_package(tmp_path / "other.tgz", b"steal()")
    write_npm(npm, bringing(other, tmp_path / "calls"))
    with pytest.raises(ModelError, match="as it was published"):
        runtime_files(tmp_path / "cache")
    assert not os.path.lexists(tmp_path / "cache")
    with pytest.raises(RequestError, match=r"other\.tgz is not onnxruntime-web"):
        runtime_files(tmp_path / "cache", other)


def test_a_file_that_is_named_needs_no_npm(package: Path, npm: Path, tmp_path: Path) -> None:
    assert runtime_files(tmp_path / "cache", package) == EXPECTED


@pytest.mark.parametrize(
    ("body", "kind", "told"),
    [
        (None, RequestError, "no npm"),
        ("echo 'npm error code E404' >&2; exit 1", ServingError, "npm error code E404"),
        ("printf '\\033[31mnpm error \\033[0m' >&2; exit 1", ServingError, r"\\x1b"),
        ("exit 1", ServingError, "it says nothing"),
        ("exit 0", ServingError, "it says nothing"),
    ],
)
def test_without_it_there_is_a_way_out(
    body: str | None, kind: type[NanocvError], told: str, npm: Path, tmp_path: Path
) -> None:
    if body:
        write_npm(npm, body)
    with pytest.raises(kind, match=told) as raised:
        runtime_files(tmp_path / "cache")
    assert "--runtime" in raised.value.hint
