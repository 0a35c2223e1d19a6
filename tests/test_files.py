"""Atomic writes: what stood there before survives any failure, and what a killed process left is swept."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from nanocv_cli import files
from nanocv_cli.errors import RequestError, StorageError
from nanocv_cli.files import atomic_path, expect_folder, expect_writable, folder_beside, write_json, write_text


def test_a_write_replaces_the_whole_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    write_text(target, "first, and longer")
    write_text(target, "second")
    assert target.read_text() == "second"
    assert [entry.name for entry in target.parent.iterdir()] == ["file.txt"]


def test_a_failure_inside_keeps_the_former_content(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    write_text(target, "former")
    with pytest.raises(KeyError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert target.read_text() == "former"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


def test_a_full_disk_keeps_the_former_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file.txt"
    write_text(target, "former")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        write_text(target, "new")
    assert target.read_text() == "former"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        write_text(tmp_path / "file" / "inside.txt", "x")


def test_json_holds_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def test_the_file_mode_honours_the_umask(tmp_path: Path) -> None:
    former = os.umask(0o027)
    try:
        write_text(tmp_path / "x", "content")
    finally:
        os.umask(former)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


WRITER = """
import sys
from pathlib import Path
from nanocv_cli.files import atomic_path, folder_beside
with folder_beside(Path("set")) as folder, atomic_path("model.onnx") as file:
    (folder / "sub").mkdir()
    (folder / "sub" / "image.png").write_bytes(b"x" * 1000)
    file.write_bytes(b"half")
    print("writing", flush=True)
    sys.stdin.read()
"""


@contextmanager
def writer(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that is writing a folder and a file there."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdin
    assert process.stdout.readline() == "writing\n"
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def left(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.name.startswith(files.PREFIX)]


def test_what_a_killed_process_left_is_swept_by_the_next_writer(tmp_path: Path) -> None:
    with writer(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert len(left(tmp_path)) == 2
    files._swept.clear()
    write_text(tmp_path / "other.txt", "unrelated")
    assert [entry.name for entry in tmp_path.iterdir()] == ["other.txt"]


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    with writer(tmp_path):
        files.sweep(tmp_path)
        assert len(left(tmp_path)) == 2


def test_nothing_is_swept_but_regular_files_and_folders_of_our_name(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("mine")
    (tmp_path / f"{files.PREFIX}link").symlink_to("kept")
    os.mkfifo(tmp_path / f"{files.PREFIX}pipe")
    (tmp_path / ".nanocv-notes").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    files.sweep(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_makers_and_sweepers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    def make(number: int) -> None:
        if number % 2:
            with files.part_folder(tmp_path) as folder:
                (folder / "file").write_text("content")
                files.sweep(tmp_path)
                folder.replace(tmp_path / f"whole-{number}")
        else:
            with files.part_file(tmp_path, ".txt") as file:
                file.write_text("content")
                files.sweep(tmp_path)
                file.replace(tmp_path / f"whole-{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(64)))
    assert len(list(tmp_path.iterdir())) == 64
    assert not left(tmp_path)


def test_folders_made_for_a_target_go_with_a_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyError), atomic_path(tmp_path / "a" / "b" / "file"):
        raise KeyError
    with pytest.raises(KeyError), folder_beside(tmp_path / "a" / "b" / "folder"):
        raise KeyError
    assert not list(tmp_path.iterdir())
    expect_writable(tmp_path / "a" / "b" / "file")
    assert not list(tmp_path.iterdir())


def test_a_target_of_another_kind_is_a_wrong_request_and_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    for target in (tmp_path / "folder", tmp_path / "pipe", Path("/dev/null"), Path()):
        for refuse in (expect_writable, lambda path: write_text(path, "x")):
            with pytest.raises(RequestError):
                refuse(target)
    for target in (tmp_path / "file", tmp_path / "pipe", Path("/dev/full")):
        with pytest.raises(RequestError):
            expect_folder(target)
    with pytest.raises(RequestError):
        write_text(tmp_path / ("x" * 5000), "x")
    with pytest.raises(StorageError):
        expect_writable(tmp_path / "file" / "inside")
    assert (tmp_path / "file").read_text() == "mine" and not left(tmp_path)
    assert Path("/dev/null").is_char_device()
