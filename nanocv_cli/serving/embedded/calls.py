"""Between the protocols and the queue: a request is checked in Triton's words, its answer cut to what was asked for."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from nanocv_cli.serving.datatypes import NUMPY_TYPES
from nanocv_cli.serving.embedded.faults import Fault, Status, about
from nanocv_cli.serving.embedded.jobs import Finish, Job
from nanocv_cli.serving.embedded.model import LoadedModel
from nanocv_cli.serving.embedded.plan import datatype
from nanocv_cli.serving.embedded.tensors import (
    DATATYPES,
    Array,
    Buffer,
    elements,
    from_bytes,
    from_values,
)

ONE_SIZE_TOO_MANY = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to each "
    "input shape. If you want to specify the full shape including the batch dim in your input dims config, try setting "
    "max_batch_size to zero. See the model configuration docs for more info on max_batch_size."
)
LARGEST_RANK = 32
NUMBERS = {np.dtype(kind).kind for kind in NUMPY_TYPES.values()} - {"O"}


@dataclass(frozen=True)
class GivenTensor:
    """An input as a client sent it: either raw bytes or JSON values."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: Buffer | None = None
    values: Any = None


@dataclass(frozen=True)
class WantedOutput:
    """An output that a client asked for; `classes` above 0 asks for that many best labels in place of values."""

    name: str
    classes: int = 0
    binary: bool = False


@dataclass(frozen=True)
class Call:
    """An inference request, whatever protocol it came by. `timeout_us` 0 is any; no `wanted` means all outputs."""

    request_id: str
    inputs: Sequence[GivenTensor]
    wanted: Sequence[WantedOutput] = ()
    timeout_us: int = 0


@dataclass(frozen=True)
class NamedArray:
    """An output on its way to the client."""

    name: str
    datatype: str
    array: Array
    binary: bool


class Budget:
    """Bounds the bytes of all requests that are in the server at once.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._taken, self._lock = limit, 0, threading.Lock()

    def take(self, size: int) -> None:
        """Takes `size` bytes, to be given back.

        Raises:
            Fault: they are not there.
        """
        with self._lock:
            if self._taken + size > self._limit:
                raise Fault(
                    f"the requests in flight hold {self._taken:,} of at most {self._limit:,} bytes",
                    Status.UNAVAILABLE,
                    "REJECTED",
                )
            self._taken += size

    def give_back(self, size: int) -> None:
        """Gives back what was taken."""
        with self._lock:
            self._taken -= size

    @contextmanager
    def reserved(self, size: int) -> Iterator[None]:
        """Takes `size` bytes for as long as the context lasts; see `take`."""
        self.take(size)
        try:
            yield
        finally:
            self.give_back(size)


async def answer(model: LoadedModel, call: Call) -> list[NamedArray]:
    """Checks a call, queues it and waits for its outputs.

    Raises:
        Fault: it is not one that this model can answer, or the model failed on it.
    """
    arrives: asyncio.Future[dict[str, Array]] = asyncio.get_running_loop().create_future()
    job = Job({}, 1, call.request_id, 1000 * call.timeout_us, arrives)
    try:
        job.inputs, job.rows = _checked_inputs(model, call)
        wanted = _checked_outputs(model, call)
        model.submit(job)
    except Fault as fault:
        if fault.reason == "REJECTED":
            model.statistics.failed(job.arrived, fault.reason)
        raise
    try:
        outputs = await arrives
    except asyncio.CancelledError:
        model.abandon(job)
        raise
    return [_cut(model, outputs[output.name], output) for output in wanted]


def settle(finish: Finish) -> None:
    """Makes answers and hands them to those who wait for them in this event loop."""
    for job, outcome in finish():
        future: asyncio.Future[dict[str, Array]] = job.arrives
        if future.done():  # the client is gone
            continue
        if isinstance(outcome, Fault):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _checked_inputs(model: LoadedModel, call: Call) -> tuple[dict[str, Array], int]:
    """The inputs as arrays in the config's order, and how many rows they share."""
    config = model.config
    given: dict[str, GivenTensor] = {}
    for tensor in call.inputs:
        if tensor.name in given:
            raise Fault(about(call.request_id, f"input '{tensor.name}' already exists in request"))
        given[tensor.name] = tensor
    missing = [entry.name for entry in config.input if entry.name not in given]
    if len(given) != len(config.input):
        raise Fault(
            about(
                call.request_id,
                f"expected {len(config.input)} inputs but got {len(given)} inputs for model '{model.name}'. "
                f"Got input(s) {_names(sorted(given))}, but missing required input(s) {_names(missing)}. "
                "Please provide all required input(s).",
            )
        )
    if missing:
        unexpected = next(name for name in given if name not in {entry.name for entry in config.input})
        raise Fault(f"unexpected inference input '{unexpected}' for model '{model.name}'")
    arrays = {entry.name: _as_array(model, call, given[entry.name], entry) for entry in config.input}
    if not config.max_batch_size:
        return arrays, 1
    rows = {len(array) for array in arrays.values()}
    if len(rows) > 1:
        raise Fault(about(call.request_id, f"inputs of model '{model.name}' differ in batch size"))
    return arrays, rows.pop()


def _as_array(model: LoadedModel, call: Call, tensor: GivenTensor, entry: Any) -> Array:
    batched, named = model.config.max_batch_size, f"input '{tensor.name}'"
    kind, dims = datatype(entry.data_type), ([-1] if batched else []) + list(entry.dims)
    if tensor.datatype != kind:
        raise Fault(
            about(
                call.request_id,
                f"inference {named} data-type is '{tensor.datatype}', but model '{model.name}' expects '{kind}'",
            )
        )
    if batched and tensor.shape and tensor.shape[0] > batched:
        raise Fault(about(call.request_id, f"inference request batch-size must be <= {batched} for '{model.name}'"))
    fits = len(tensor.shape) == len(dims) and all(
        size >= 0 and wanted in (-1, size) for wanted, size in zip(dims, tensor.shape, strict=True)
    )
    if not fits:
        raise Fault(
            about(
                call.request_id,
                f"unexpected shape for {named} for model '{model.name}'. Expected {_sizes(dims)}, got "
                f"{_sizes(tensor.shape)}. {ONE_SIZE_TOO_MANY if batched else ''}".rstrip(),
            )
        )
    if batched and tensor.shape[0] == 0:
        raise Fault(about(call.request_id, f"inference request batch-size must be >= 1 for '{model.name}'"))
    if tensor.raw is None:
        return from_values(tensor.values, kind, tensor.shape, tensor.name)
    array = from_bytes(tensor.raw, kind, tensor.shape)
    if array is None:
        expected = elements(tensor.shape) * np.dtype(NUMPY_TYPES[kind]).itemsize
        wanted_bytes = "the lengths of its strings" if kind == "BYTES" else str(expected)
        raise Fault(
            about(
                call.request_id,
                f"input byte size mismatch for {named} for model '{model.name}'. Expected {wanted_bytes}, "
                f"got {len(tensor.raw)}",
            )
        )
    return array


def _checked_outputs(model: LoadedModel, call: Call) -> Sequence[WantedOutput]:
    """What the client asked for, or all outputs."""
    names = {output.name for output in model.config.output}
    for output in call.wanted:
        if output.name not in names:
            raise Fault(f"unexpected inference output '{output.name}' for model '{model.name}'")
    return call.wanted or [WantedOutput(output.name) for output in model.config.output]


def _cut(model: LoadedModel, array: Array, wanted: WantedOutput) -> NamedArray:
    if wanted.classes > 0:
        array = _best(array, wanted.classes, model.labels.get(wanted.name, []), bool(model.config.max_batch_size))
    return NamedArray(wanted.name, "BYTES" if array.dtype == object else DATATYPES[array.dtype], array, wanted.binary)


def _best(array: Array, count: int, labels: Sequence[str], batched: bool) -> Array:
    """Triton's classification extension: the best values as `value:index[:label]`, best first, per row."""
    if array.dtype.kind not in NUMBERS:
        raise Fault("class count is for outputs of numbers")
    rows = array.reshape(len(array), -1) if batched else array.reshape(1, -1)
    count = min(count, rows.shape[1])
    best = np.empty((len(rows), count), object)
    for line, row in zip(best, rows, strict=True):
        for place, index in enumerate(np.argsort(-row.astype(np.float64), kind="stable")[:count]):
            value = f"{row[index]:f}" if row.dtype.kind == "f" else str(int(row[index]))
            label = f":{labels[index]}" if index < len(labels) else ""
            line[place] = f"{value}:{index}{label}".encode()
    return best if batched else best[0]


def _names(names: Sequence[str]) -> str:
    return "[" + ",".join(f"'{name}'" for name in names) + "]"


def _sizes(sizes: Sequence[int]) -> str:
    return "[" + ",".join(map(str, sizes[:LARGEST_RANK])) + "]"
