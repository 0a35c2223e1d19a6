"""Processors are counted by what the process may use, not by what the machine has."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from nanocv_cli.machine import _macos_flags, processor_flags, thread_limit, usable_processors


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"sys/fs/cgroup/cpu.max": "250000 100000\n"}, 3),
        ({"sys/fs/cgroup/cpu.max": "10000 100000\n"}, 1),
        ({"sys/fs/cgroup/cpu.max": "9900000 100000\n"}, 8),
        ({"sys/fs/cgroup/cpu.max": "rubbish"}, 8),
        ({"sys/fs/cgroup/cpu.max": "0 0"}, 8),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "400000 100000",
          "sys/fs/cgroup/a/cpu.max": "300000 100000"}, 3),
        ({"proc/self/cgroup": "0::/../../host/path\n", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 2),
        ({"proc/self/cgroup": "4:cpu,cpuacct:/box\n0::/\n",
          "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "500000",
          "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000"}, 5),
    ],
)  # fmt: skip
def test_a_quota_is_rounded_up_and_is_never_more_than_there_are(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    assert usable_processors(write(tmp_path, files)) == expected


def test_the_least_of_affinity_and_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5, 6}, raising=False)
    assert usable_processors(tmp_path) == 3
    assert usable_processors(write(tmp_path, {"sys/fs/cgroup/cpu.max": "100000 100000"})) == 1


def test_without_affinity_the_machine_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_processors(tmp_path) == 8
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_processors(tmp_path) == 1


def test_libraries_are_limited_only_where_they_would_start_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    assert thread_limit() == min(3, usable_processors())
    monkeypatch.setattr("nanocv_cli.machine.usable_processors", lambda: 8)
    assert thread_limit() == 0


def test_instructions_are_told_by_their_names_on_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    intel = write(tmp_path / "intel", {"proc/cpuinfo": "model name : any\nflags\t\t: fpu avx512_vnni\nflags : fpu\n"})
    assert processor_flags(intel) == {"fpu", "avx512_vnni"}
    assert processor_flags(write(tmp_path / "arm", {"proc/cpuinfo": "Features : fp asimddp\n"})) == {"fp", "asimddp"}
    assert processor_flags(tmp_path / "nothing") == frozenset()


def test_macos_names_are_those_of_linux() -> None:
    apple = "hw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_BF16: 1\nhw.optional.arm.FEAT_I8MM: 0\n"
    assert _macos_flags(apple) == {"asimddp", "bf16"}
    assert _macos_flags("machdep.cpu.leaf7_features: RDWRFSGS AVX2 AVX512VNNI\n") == {"avx2", "avx512_vnni"}


def without_malloc_settings() -> dict[str, str]:
    """The environment without what sets glibc's malloc, or puts another one in its place."""
    ours = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


ARENAS_OF_MANY_THREADS = """
import ctypes, sys, threading
from nanocv_cli.machine import share_freed_memory
if sys.argv[1] == "shared":
    share_freed_memory()
together, libc = threading.Barrier(24), ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
def allocate():
    together.wait()
    for _ in range(200):
        libc.free(ctypes.c_void_p(libc.malloc(5000)))
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(24)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.malloc_info(0, ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w")))
libc.fflush(None)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc has no such arenas")
def test_many_threads_share_two_arenas() -> None:
    environment = without_malloc_settings()

    def arenas(how: str) -> int:
        command = [sys.executable, "-c", ARENAS_OF_MANY_THREADS, how]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return done.stdout.count("<heap nr=")

    assert arenas("shared") <= 2 < arenas("apart")


HOLES_BETWEEN_BLOCKS = """
import ctypes
import psutil
from nanocv_cli.machine import return_freed_memory
libc, memory = ctypes.CDLL(None), psutil.Process().memory_info
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
blocks = [libc.malloc(60_000) for _ in range(2000)]
[ctypes.memset(block, 1, 60_000) for block in blocks]
[libc.free(block) for block in blocks[:-1]]
before = memory().rss
return_freed_memory()
print(before - memory().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc returns memory in its own way")
def test_memory_that_lies_free_between_blocks_in_use_is_returned() -> None:
    command, environment = [sys.executable, "-c", HOLES_BETWEEN_BLOCKS], without_malloc_settings()
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert int(done.stdout) > 100_000_000
