"""What this machine has and gives this process: processors, in containers too, memory, and packages that compute."""

import ctypes
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from nanocv_cli.errors import RequestError

ROOT = Path("/")
GIB = 1 << 30
# What a model is fed may take this part of the memory: its layers take several times as much.
FED_PART = 16
UNKNOWN_MEMORY = 8 * GIB
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # glibc's malloc.h
LARGEST_KEPT = 1 << 30
ARENAS = 2
# By macOS's names.
MACOS_FLAGS = {
    "FEAT_DotProd": "asimddp",
    "FEAT_I8MM": "i8mm",
    "FEAT_BF16": "bf16",
    "AVX512VNNI": "avx512_vnni",
    "AVX2": "avx2",
}
COMPUTING = ("torch", "torchvision", "onnx", "onnxruntime", "numpy", "pillow")


def versions() -> dict[str, str]:
    """What a result depends on beside its data and config: versions by name, of packages those that are installed."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from nanocv_cli import __version__

    found = {"nanocv": __version__, "python": platform.python_version(), "platform": platform.platform(terse=True)}
    for name in COMPUTING:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def usable_processors(root: Path = ROOT) -> int:
    """Processors that this process may keep busy at the same time; at least 1.

    The least of three: what the machine has, what the process may be scheduled on (its affinity), and what its cgroup
    (a container's limit, version 1 or 2) pays for. A share of a processor counts as one more thread: 2.5 are 3.

    Args:
        root: where `/proc` and `/sys` lie.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for quota in (_quota_v2(root), _quota_v1(root)) if quota is not None]
    return max(1, min([affinity, *(math.ceil(quota) for quota in quotas)]))


def thread_limit() -> int:
    """Threads for a library that would otherwise start one for each processor of the machine; 0: it may do so."""
    usable = usable_processors()
    return usable if usable < (os.cpu_count() or 1) else 0


def _quota_v2(root: Path) -> float | None:
    """Processors by `cpu.max` of the process's cgroup and of all above it, the least; None without a limit."""
    found = None
    for folder in _folders(root / "sys/fs/cgroup", _own_path(root, "")):
        parts = _text(folder / "cpu.max").split()
        if len(parts) == 2 and (quota := _ratio(*parts)) is not None:
            found = quota if found is None else min(found, quota)
    return found


def _quota_v1(root: Path) -> float | None:
    """The same by version 1's files: a quota of -1 is none."""
    found = None
    own = _own_path(root, "cpu")
    for mount in ("cpu", "cpu,cpuacct"):
        for folder in _folders(root / "sys/fs/cgroup" / mount, own):
            quota = _ratio(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))
            if quota is not None:
                found = quota if found is None else min(found, quota)
    return found


def _folders(mount: Path, own: str) -> list[Path]:
    """The cgroup's folder and those above it. In a container the path may be the host's: then only the top is there."""
    parts = [part for part in own.split("/") if part not in ("", "..")]
    return [mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _own_path(root: Path, controller: str) -> str:
    """The process's path in the hierarchy of a controller; version 2's has none."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            return path
    return ""


def _ratio(quota: str, period: str) -> float | None:
    """Microseconds of processor time per period, as processors; None for what says that there is no limit."""
    try:
        time, of = int(quota), int(period)
    except ValueError:  # "max", or there is no such file
        return None
    return time / of if time > 0 and of > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def processor_name() -> str:
    """What the processor calls itself."""
    if platform.system() == "Darwin":
        done = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False)
        return done.stdout.strip() or "Apple"
    lines = _text(ROOT / "proc/cpuinfo").splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine() or "CPU"


def processor_flags(root: Path = ROOT) -> frozenset[str]:
    """Names of the instructions that the processor has, as Linux calls them; empty where the system does not tell.

    Args:
        root: where `/proc` lies.
    """
    if platform.system() == "Darwin":
        done = subprocess.run(["sysctl", "hw.optional", "machdep.cpu"], capture_output=True, text=True, check=False)
        return _macos_flags(done.stdout)
    lines = _text(root / "proc/cpuinfo").splitlines()
    told = (line.partition(":") for line in lines)
    return frozenset(next((value for name, _, value in told if name.strip() in ("flags", "Features")), "").split())


def _macos_flags(told: str) -> frozenset[str]:
    """Those of `MACOS_FLAGS` that `sysctl` tells of: an entry of its own with 1, or a word in a list."""
    entries = (line.partition(": ") for line in told.splitlines())
    words = (name.rpartition(".")[2] if value == "1" else value for name, _, value in entries)
    found = set(" ".join(words).split())
    return frozenset(flag for word, flag in MACOS_FLAGS.items() if word in found)


def physical_memory() -> int:
    """Bytes of memory of this machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # a system that does not tell
        return UNKNOWN_MEMORY


def expect_room(needed: int, what: str, hint: str) -> None:
    """Refuses to feed a model more than this machine can work on.

    Args:
        needed: bytes of what the model is fed at a time.
        what: that is, for people.
        hint: how to ask for less.

    Raises:
        RequestError: it is too much.
    """
    most = physical_memory() // FED_PART
    if needed > most:
        raise RequestError(
            f"{what} take {needed / GIB:,.1f} GiB to feed; of this machine's memory {most / GIB:,.1f} GiB is the most",
            hint,
        )


def keep_freed_memory() -> None:
    """Stops glibc from handing blocks under 1 GiB back to the kernel at every free.

    A step allocates the same few hundred megabytes as the one before; fetched anew, page by page, they cost a CPU about
    a tenth of the step. Elsewhere (macOS, musl) nothing is done.
    """
    _set_malloc({M_MMAP_THRESHOLD: LARGEST_KEPT, M_TRIM_THRESHOLD: 2 * LARGEST_KEPT - 1})


def share_freed_memory() -> None:
    """Has all threads take memory from few of glibc's arenas, so that what one has freed is of use to the others.

    A thread that finds all arenas busy gets one more, up to eight for each processor: a process of many threads grows
    for hours, though it holds no more. Elsewhere nothing is done.
    """
    _set_malloc({M_ARENA_MAX: ARENAS})


def return_freed_memory() -> None:
    """Has glibc hand every page that lies free back to the kernel, those between blocks in use too.

    By itself it hands back only what is free at an arena's end: a small block that lives on there holds all before it.
    It takes milliseconds, without the interpreter's lock. Elsewhere nothing is done.
    """
    if (trim := _of_libc("malloc_trim")) is not None:
        trim(ctypes.c_size_t(0))


def _set_malloc(options: dict[int, int]) -> None:
    if (mallopt := _of_libc("mallopt")) is not None:
        for option, value in options.items():
            mallopt(option, value)


def _of_libc(name: str) -> Callable[..., int] | None:
    """A function of Linux's C library, where it has that one: musl has neither of those used here."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
