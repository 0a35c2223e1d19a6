"""The peaks of this very machine: matrix products by data type, copies in memory and in the cache, one launch."""

import contextlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nanocv_cli.config.schema import GpuConfig
from nanocv_cli.errors import StorageError
from nanocv_cli.files import write_json
from nanocv_cli.machine import processor_name

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
ROUNDS = 3
SECONDS_PER_ROUND = 0.1
# Sides of the square matrices: large enough to reach the peak, small enough to be done in a second.
SIDES = {"cpu": (512, 1024), "mps": (2048, 4096), "cuda": (4096, 8192)}
MEMORY_BYTES = {"cpu": 256 * 2**20, "mps": 256 * 2**20, "cuda": 1024 * 2**20}
CACHE_COPY = 2**19
# Raised whenever something would be measured differently: older figures are then measured anew.
FORMAT = 3


def local_peaks(device: torch.device, cache: Path, say: Callable[[str], None]) -> GpuConfig:
    """This machine's peaks on a device, measured once (under ten seconds) and kept.

    Args:
        device: cpu, cuda or mps.
        cache: folder of the project's caches.
        say: told before something is measured.
    """
    title = _title(device)
    key = {"format": FORMAT, "device": device.type, "title": title, "torch": torch.__version__}
    key |= {"threads": torch.get_num_threads()}
    file = cache / f"peaks-{device.type}.json"
    # Nothing kept, or something that is no such file: it is measured (again).
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["key"] == key:
            return GpuConfig.model_validate(kept["peaks"])
    say(f"measuring the peaks of {title}: a few seconds, once")
    measured = measure_peaks(device, title)
    # In a folder that may not be written to the figures serve all the same.
    with contextlib.suppress(OSError, StorageError):
        write_json(file, {"key": key, "peaks": measured.model_dump(mode="json")})
    return measured


def measure_peaks(device: torch.device, title: str) -> GpuConfig:
    """Best of three rounds of each, so that a noisy moment does not lower a peak."""
    peaks = {name: _product_rate(device, dtype) for name, dtype in DTYPES.items()}
    peaks["int8"] = _integer_rate(device)
    memory = _copy_rate(device, MEMORY_BYTES[device.type])
    cache_rate, cache_size = _cache(device, memory)
    # Slower than fp32 means emulated: such a type has no peak of its own.
    usable = {name: rate for name, rate in peaks.items() if rate and (name == "fp32" or rate >= 0.5 * peaks["fp32"])}
    words = "measured here: best of repeated"
    return GpuConfig.model_validate({
        "name": "local",
        "title": title,
        "peak": usable,
        "memory_bandwidth": memory,
        "l2_bandwidth": cache_rate,
        "l2_size": float(cache_size),
        "processors": _processors(device),
        "launch_seconds": _launch(device),
        "sources": {
            "peak": f"{words} square matrix products",
            "memory_bandwidth": f"{words} copies of {MEMORY_BYTES[device.type] // 2**20} MiB, reads and writes added",
            "l2_bandwidth": f"{words} copies of {CACHE_COPY // 2**10} KiB; size: what is copied faster than memory",
        },
    })  # fmt: skip


def best_seconds(run: Callable[[], Any], device: torch.device) -> float:
    """Shortest mean time of a call over three rounds."""
    run()
    synchronise(device)
    best = float("inf")
    for _ in range(ROUNDS):
        start, calls = time.perf_counter(), 0
        while calls == 0 or time.perf_counter() - start < SECONDS_PER_ROUND:
            run()
            calls += 1
            if device.type != "cpu":
                synchronise(device)
        best = min(best, (time.perf_counter() - start) / calls)
    return best


def synchronise(device: torch.device) -> None:
    """Waits until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _product_rate(device: torch.device, dtype: torch.dtype) -> float:
    rates = [0.0]
    for side in SIDES[device.type]:
        try:
            left = torch.randn(side, side, device=device).to(dtype)
            seconds = best_seconds(lambda left=left: left @ left, device)  # type: ignore[misc]
        except (RuntimeError, TypeError):  # the device has no such type
            return 0.0
        rates.append(2.0 * side**3 / seconds)
    return max(rates)


def _integer_rate(device: torch.device) -> float:
    side = SIDES[device.type][0]
    try:
        left = torch.randint(-100, 100, (side, side), dtype=torch.int8).to(device)
        return 2.0 * side**3 / best_seconds(lambda: torch._int_mm(left, left), device)
    except (RuntimeError, NotImplementedError):
        return 0.0


def _copy_rate(device: torch.device, size: int) -> float:
    source = torch.zeros(size // 4, device=device)
    target = torch.zeros_like(source)
    return 2.0 * size / best_seconds(lambda: target.copy_(source), device)


def _launch(device: torch.device) -> float:
    """Time of a layer that has next to nothing to do: a convolution of one pixel, called as a module."""
    layer, pixel = torch.nn.Conv2d(8, 8, 1).to(device).eval(), torch.zeros(1, 8, 1, 1, device=device)
    with torch.no_grad():
        if device.type == "cpu":
            return best_seconds(lambda: layer(pixel), device)
        # Calls are queued: what counts is how fast the queue moves.
        calls = 1000
        start = time.perf_counter()
        for _ in range(calls):
            layer(pixel)
        synchronise(device)
        return (time.perf_counter() - start) / calls


def _processors(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).multi_processor_count
    return torch.get_num_threads() if device.type == "cpu" else 8


def _cache(device: torch.device, memory: float) -> tuple[float, int]:
    """Bandwidth of small copies, and how many bytes a copy may touch before it is nearer to memory's bandwidth."""
    fast = _copy_rate(device, CACHE_COPY)
    size = CACHE_COPY
    while size < MEMORY_BYTES[device.type] // 4 and _copy_rate(device, 2 * size) > math.sqrt(fast * memory):
        size *= 2
    return max(fast, memory), 2 * size


def _title(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return (
        f"{processor_name()}, {torch.get_num_threads()} threads"
        if device.type == "cpu"
        else f"{processor_name()} (MPS)"
    )
