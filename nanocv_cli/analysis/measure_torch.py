"""Runs a torch model on a device and times it: the whole as it is, and every operator by itself."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nanocv_cli.analysis.analysed_model import AnalysedModel
from nanocv_cli.analysis.layer import Model
from nanocv_cli.analysis.local import DTYPES, synchronise
from nanocv_cli.analysis.measured import Measured, seconds_of
from nanocv_cli.analysis.operators import TORCH
from nanocv_cli.analysis.torch_trace import NamesOfModules, whole_attention, without_fused_encoder
from nanocv_cli.errors import RequestError
from nanocv_cli.machine import expect_room

LAYER_ROUNDS = 7
FLOAT = 4  # bytes

Key = tuple[str, str]


def measure_torch(analysed: AnalysedModel, model: Model, device: torch.device, dtype: str, batch: int) -> Measured:
    """Times a model with random weights on random images.

    Args:
        analysed: what to build.
        model: its layers, as `analysed.analyse` found them.
        device: cpu, cuda or mps.
        dtype: fp32, fp16 or bf16.
        batch: images.

    Raises:
        RequestError: torch's layers do not run at that type.
    """
    if dtype not in DTYPES:
        raise RequestError(f"--measure runs torch at {', '.join(DTYPES)}, not at {dtype}", "--dtype fp32")
    size = analysed.input_size
    expect_room(batch * 3 * size * size * FLOAT, f"{batch:,} images of {size}x{size}", "a smaller --batch-sizes")
    network = analysed.build().eval().to(device, DTYPES[dtype])
    inputs = _filled(analysed.inputs(str(device), batch), DTYPES[dtype])

    def run() -> None:
        network(*inputs)
        synchronise(device)

    with torch.no_grad():
        whole = seconds_of(run)
        rounds = []
        for _ in range(LAYER_ROUNDS):
            names = NamesOfModules(network)
            clock = _Clock(names, device)
            with without_fused_encoder(), names.followed(), whole_attention(clock.whole), clock:
                network(*inputs)
            rounds.append(clock.times)
    layers = _matched(model, rounds)
    title = f"torch {torch.__version__}, {device.type}, {dtype}, batch {batch}"
    return Measured(title, statistics.median(whole), layers, len(whole))


class _Clock(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Times every operator, under the module that calls it and the family of the operator."""

    def __init__(self, names: NamesOfModules, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.times: dict[Key, list[float]] = defaultdict(list)
        self._names = names
        self._device = device
        self._pausing = False

    def __torch_dispatch__(
        self, function: Any, types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = str(function).rpartition(".")[0]
        return self.timed(name, lambda: function(*args, **(kwargs or {})))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # see `torch_trace`

    def whole(self, name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Times a function as one operator."""
        return self.timed(name, lambda: function(*args, **kwargs))

    def timed(self, operator: str, run: Callable[[], Any]) -> Any:
        """Runs a call and notes its time; calls inside it are part of it."""
        if self._pausing:
            return run()
        self._pausing = True
        start = time.perf_counter()
        try:
            result = run()
            synchronise(self._device)
        finally:
            self._pausing = False
        self.times[_key(self._names.current, operator)].append(time.perf_counter() - start)
        return result


def _matched(model: Model, rounds: list[dict[Key, list[float]]]) -> tuple[float | None, ...]:
    """The layers' times: the n-th layer of a module and family is the n-th call there."""
    seen: dict[Key, int] = defaultdict(int)
    found: list[float | None] = []
    for layer in model.layers:
        module, base = layer.name.partition("#")[0], layer.operator.rpartition(".")[2].removesuffix("_")
        key = _key("" if module == base else module, layer.operator)
        place = seen[key]
        seen[key] += 1
        times = [times[key][place] for times in rounds if key in times and place < len(times[key])]
        found.append(statistics.median(times) if times else None)
    return tuple(found)


def _key(module: str, operator: str) -> Key:
    """A device may have an operator of its own (cuDNN's batch norm): the family is the same."""
    base = operator.rpartition(".")[2].removesuffix("_")
    rule = TORCH.get(base)
    return module, rule.kind if rule else base


def _filled(value: Any, dtype: torch.dtype) -> Any:
    """The same structure with random images."""
    if isinstance(value, Tensor):
        return torch.rand(value.shape, device=value.device).to(dtype)
    return type(value)(_filled(part, dtype) for part in value)
