"""A torch module as a list of layers, by running it on shapes alone and looking at every operator that it calls."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from nanocv_cli.analysis.data_dependent import Conditions
from nanocv_cli.analysis.layer import Layer
from nanocv_cli.analysis.torch_layers import ALLOCATIONS, Call, layer_of


def trace(
    network: nn.Module, inputs: tuple[Any, ...], scores_pass: bool = True
) -> tuple[tuple[Layer, ...], tuple[str, ...]]:
    """The layers of one forward pass.

    Args:
        network: on torch's meta device, in evaluation mode.
        inputs: of its forward; tensors on the meta device with a batch of one.
        scores_pass: whether a detector's candidates pass their score thresholds, all or none.

    Returns:
        the layers in the order they run, and what was assumed where shapes depend on values.
    """
    names = NamesOfModules(network)
    conditions = Conditions(scores_pass)
    recorder = _Recorder(network, inputs, names, conditions)
    with torch.no_grad(), without_fused_encoder(), names.followed(), whole_attention(recorder.whole), recorder:
        network(*inputs)
    return tuple(recorder.layers), tuple(sorted(conditions.assumptions))


@contextlib.contextmanager
def without_fused_encoder() -> Iterator[None]:
    """`nn.MultiheadAttention` in evaluation would run as one operator that hides its products."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def whole_attention(around: Callable[[str, Callable[..., Any], Any, Any], Any]) -> Iterator[None]:
    """Scaled dot-product attention is one operator while the block runs, as every device's fused kernel runs it.

    Torch would take it apart before a dispatch mode sees it. The function is replaced where all of torch's modules
    look it up: a function mode would not reach it inside `nn.MultiheadAttention`.

    Args:
        around: called with the operator's name, the function and its arguments in place of the function.
    """
    functional: Any = nn.functional
    original = functional.scaled_dot_product_attention

    def replaced(*args: Any, **kwargs: Any) -> Any:
        return around("aten.scaled_dot_product_attention", original, args, kwargs)

    functional.scaled_dot_product_attention = replaced
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = original


class NamesOfModules:
    """Which module is running, by its dotted name."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._running: list[str] = []

    @property
    def current(self) -> str:
        """The innermost one; empty for the network itself."""
        return self._running[-1] if self._running else ""

    @contextlib.contextmanager
    def followed(self) -> Iterator[None]:
        """Follows the modules while the block runs."""
        hooks = []
        for name, module in self._network.named_modules():
            hooks.append(module.register_forward_pre_hook(self._entering(name)))
            hooks.append(module.register_forward_hook(self._left, always_call=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _entering(self, name: str) -> Callable[..., None]:
        def entering(module: nn.Module, arguments: Any) -> None:
            self._running.append(name)

        return entering

    def _left(self, module: nn.Module, arguments: Any, output: Any) -> None:
        self._running.pop()


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Turns every operator that reaches the dispatcher into a layer."""

    def __init__(
        self, network: nn.Module, inputs: tuple[Any, ...], names: NamesOfModules, conditions: Conditions
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layers: list[Layer] = []
        self._names = names
        self._conditions = conditions
        self._used: dict[str, int] = {}
        # Storages are told apart by address: all that were seen stay alive, so that no address is used twice.
        self._alive: list[Any] = [inputs]
        self._parameters = {_storage(p): p.numel() for p in network.parameters()}
        self._unseen = set(self._parameters)
        self._weights = self._parameters.keys() | {_storage(b) for b in network.buffers()}
        self._of_image = {_storage(tensor) for tensor in tensors_in(inputs)}
        self._pausing = False

    def __torch_dispatch__(
        self, function: Any, types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = str(function).rpartition(".")[0]
        result = self._conditions.answer(name, args)
        if result is None:
            result = function(*args, **(kwargs or {}))
        self._conditions.watch(name, args, result)
        if not self._pausing:
            self.record(name, args, kwargs or {}, result, function._schema.is_mutable)
        return result

    def record(self, name: str, args: Any, kwargs: Mapping[str, Any], result: Any, is_mutable: bool = False) -> None:
        """Adds the layer of one call, unless it only gives memory or looks at it from another side."""
        self._alive.append(result)
        sources, results = tensors_in((args, dict(kwargs))), tensors_in(result)
        read = {_storage(tensor) for tensor in sources}
        is_of_image = bool(read & self._of_image)
        if is_of_image:
            self._of_image |= {_storage(tensor) for tensor in results}
        base = name.rpartition(".")[2]
        is_view = not is_mutable and bool(results) and all(_storage(tensor) in read for tensor in results)
        if not results or is_view or base in ALLOCATIONS:
            return
        fresh = read & self._unseen
        self._unseen -= fresh
        call = Call(
            name=self._unique(self._names.current or base),
            operator=name,
            args=args,
            kwargs=kwargs,
            weights=tuple(tensor for tensor in sources if _storage(tensor) in self._weights),
            inputs=tuple(tensor for tensor in sources if _storage(tensor) not in self._weights),
            outputs=tuple(results),
            params=sum(self._parameters[storage] for storage in fresh),
            per_image=is_of_image,
        )
        self.layers.append(layer_of(call))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Else torch imports its compiler to keep it away from here: half a second.
        return False

    def whole(self, name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Records a function as one operator, whatever it calls."""
        self._pausing = True
        try:
            result = function(*args, **kwargs)
        finally:
            self._pausing = False
        self.record(name, args, kwargs, result)
        return result

    def _unique(self, name: str) -> str:
        """The second layer of one module is `name#2`."""
        self._used[name] = self._used.get(name, 0) + 1
        return name if self._used[name] == 1 else f"{name}#{self._used[name]}"


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors of nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [found for part in value for found in tensors_in(part)] if isinstance(value, list | tuple) else []


def _storage(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address
