"""Folders replaced in one step: readers find the old one or the new one, also while writers are killed."""

import errno
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nanocv_cli import replaced_folder
from nanocv_cli.errors import StorageError
from nanocv_cli.replaced_folder import put_in_place, staging

PARTS = ("config", "labels", "1/graph")
WRITER = """
import sys
from pathlib import Path
from tests.test_replaced_folder import replace
first, count = map(int, sys.argv[2:])
for generation in range(first, first + count):
    replace(Path(sys.argv[1]), generation)
"""


def replace(parent: Path, generation: int) -> None:
    """Puts a folder in place whose parts all say the same number."""
    with staging(parent) as folder:
        for part in PARTS:
            (folder / "entry" / part).parent.mkdir(parents=True, exist_ok=True)
            (folder / "entry" / part).write_text(str(generation))
        put_in_place(folder / "entry", parent / "entry")


def numbers(target: Path) -> set[str]:
    """What the parts of the folder say that is at `target` now; empty if it was removed while it was read."""
    descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = set()
        for part in PARTS:
            with open(os.open(part, os.O_RDONLY, dir_fd=descriptor)) as file:  # noqa: PTH123
                found.add(file.read())
        return found
    except FileNotFoundError:
        return set()
    finally:
        os.close(descriptor)


def start_writer(parent: Path, first: int, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, str(parent), str(first), str(count)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[1])  # where `tests` is this package


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    folder = tmp_path / "parent"
    replace(folder, 0)
    return folder


def test_a_reader_never_misses_the_folder_nor_finds_a_mixed_one(parent: Path) -> None:
    writer = start_writer(parent, 1, 300)
    seen: set[str] = set()
    while writer.poll() is None:
        found = numbers(parent / "entry")  # fails where there is no folder
        assert len(found) <= 1
        assert [path.name for path in parent.iterdir()] == ["entry"]
        seen |= found
    assert writer.returncode == 0
    assert numbers(parent / "entry") == {"300"}
    assert len(seen) > 3  # it did read while the other wrote
    assert [path.name for path in parent.parent.iterdir()] == ["parent"]


def test_writers_wait_for_each_other(parent: Path) -> None:
    writers = [start_writer(parent, first, 50) for first in (100, 200, 300)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(numbers(parent / "entry")) == 1
    assert [path.name for path in parent.parent.iterdir()] == ["parent"]


def test_a_killed_writer_leaves_a_whole_folder_and_the_next_one_sweeps(parent: Path) -> None:
    moments = random.Random(0)
    for attempt in range(8):
        writer = start_writer(parent, 1000 * attempt, 100_000)
        before = numbers(parent / "entry")
        while numbers(parent / "entry") in (before, set()):
            time.sleep(0.001)
        time.sleep(moments.random() / 50)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert len(numbers(parent / "entry")) == 1
        assert [path.name for path in parent.iterdir()] == ["entry"]
    replace(parent, 7)
    assert numbers(parent / "entry") == {"7"}
    assert [path.name for path in parent.parent.iterdir()] == ["parent"]


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="there the exchange is two renames")
def test_this_system_exchanges_in_one_call(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert replaced_folder._exchanged(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "b").exists()
    assert (tmp_path / "b" / "a").exists()


def test_two_renames_where_there_is_no_exchange(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaced_folder, "_exchanged", lambda first, second: False)
    replace(parent, 5)
    assert numbers(parent / "entry") == {"5"}
    assert [path.name for path in parent.parent.iterdir()] == ["parent"]


def test_a_second_rename_that_fails_takes_the_first_one_back(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaced_folder, "_exchanged", lambda first, second: False)
    rename, calls = Path.rename, itertools.count(1)

    def second_fails(self: Path, target: Path) -> Path:
        if next(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(StorageError, match="Input/output error"):
        replace(parent, 5)
    assert numbers(parent / "entry") == {"0"}


def test_what_was_set_aside_by_a_killed_process_comes_back(parent: Path) -> None:
    place = parent.parent / ".parent.staging"
    (place / "former").mkdir(parents=True)
    (place / "new" / "entry").mkdir(parents=True)
    (parent / "entry").rename(place / "former" / "entry")
    with staging(parent) as folder:
        assert list(folder.iterdir()) == []
        assert numbers(parent / "entry") == {"0"}
    assert not place.exists()


def test_the_root_of_a_file_system_is_refused() -> None:
    mounts = [Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines()] if os.sep == "/" else []
    mount = next((m for m in mounts if m == Path("/dev/shm")), None)
    if mount is None:
        pytest.skip("no mounted folder to try")
    with pytest.raises(StorageError, match="root of its own file system"), staging(mount):
        pass
