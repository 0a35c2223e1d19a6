"""Which device trains, and at which precision."""

from contextlib import AbstractContextManager, nullcontext

import torch

from nanocv_cli.errors import RequestError
from nanocv_cli.machine import thread_limit

AUTOCAST_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str) -> torch.device:
    """The device called `auto`, `cpu`, `cuda` or `mps`; auto takes the first of cuda, mps, cpu that is there.

    Where this process may use fewer processors than the machine has, torch computes with no more threads than those.

    Raises:
        RequestError: this machine has no such device.
    """
    if limit := thread_limit():
        torch.set_num_threads(min(torch.get_num_threads(), limit))
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, there in available.items() if there))
    if name not in available:
        raise RequestError(f"unknown device {name!r}", "use auto, cpu, cuda or mps")
    if not available[name]:
        there = ", ".join(device for device, present in available.items() if present)
        raise RequestError(f"this machine has no {name} device that torch can use", f"it has: {there}")
    return torch.device(name)


def pick_precision(wanted: str, device: torch.device) -> str:
    """Resolves `auto` to the fastest precision the device has hardware for: bf16, else fp16 (CUDA only), else fp32.

    Raises:
        RequestError: fp16 is asked for on a CPU.
    """
    if wanted == "auto":
        if device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        # Without instructions for it (Intel AMX, AVX-512 BF16), bf16 on a CPU is slower than fp32.
        capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        made_for = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
        return "bf16" if device.type == "cpu" and made_for else "fp32"
    if wanted == "fp16" and device.type == "cpu":
        raise RequestError("train.precision fp16 is not for CPUs", "use auto, bf16 or fp32")
    return wanted


def computing_type(precision: str) -> torch.dtype:
    """What matrix products of the forward pass take in: a network's input may as well come in it."""
    return AUTOCAST_TYPES.get(precision, torch.float32)


def autocast(device: torch.device, precision: str, cached: bool = True) -> AbstractContextManager[object]:
    """The context in which the forward pass runs; does nothing at fp32.

    Args:
        device: of the pass.
        precision: fp32, bf16 or fp16.
        cached: whether a weight that is used twice is cast once.
    """
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, AUTOCAST_TYPES[precision], cache_enabled=cached)
