"""An inference, whatever protocol its request came by: checked, queued, waited for, cut to what was asked for.

What is said where a request does not fit its model is what Triton says.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nanocv_cli.engine.signature import NUMPY_TYPES
from nanocv_cli.serving.embedded.background import SmallestFirstExecutor
from nanocv_cli.serving.embedded.budget import Holding
from nanocv_cli.serving.embedded.encoding import (
    DATATYPES,
    ESCAPED,
    Array,
    Buffer,
    byte_size,
    elements,
    from_bytes,
    from_values,
    text_size,
)
from nanocv_cli.serving.embedded.exchange import Exchange
from nanocv_cli.serving.embedded.faults import Fault, about, shown
from nanocv_cli.serving.embedded.model import LoadedModel
from nanocv_cli.serving.embedded.plan import datatype
from nanocv_cli.serving.embedded.scheduler import Finish, Job

ONE_SIZE_TOO_MANY = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to each "
    "input shape. If you want to specify the full shape including the batch dim in your input dims config, try setting "
    "max_batch_size to zero. See the model configuration docs for more info on max_batch_size."
)
LARGEST_RANK = 32
LONGEST_ID = 1000  # characters
MOST_NAMES = 16  # in a message
LONGEST_TIMEOUT_US = 10**12  # eleven days
# The most characters of `value:index:` before a label, the value with all its digits: those of FP64 may be 309.
LABEL_ROOM, WIDE_LABEL_ROOM = 80, 350
OBJECT_BYTES = 64  # of a string in memory, beside its characters
NUMBERS = {np.dtype(kind).kind for kind in NUMPY_TYPES.values()} - {"O"}


@dataclass(frozen=True)
class InferInput:
    """An input as a client sent it: either raw bytes or JSON values."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: Buffer | None = None
    values: Any = None


@dataclass(frozen=True)
class RequestedOutput:
    """An output that a client asked for; `classes` above 0 asks for that many best labels in place of values."""

    name: str
    classes: int = 0
    binary: bool = False


@dataclass(frozen=True)
class InferRequest:
    """An inference request, whatever protocol it came by.

    Attributes:
        request_id: the client's name for it, may be empty.
        inputs: as sent.
        wanted: outputs; none means all.
        timeout_us: longest wait in the queue; 0 is any.
        text_bytes: how long the text is that its values were read from.
        binary: whether outputs that are not named in `wanted` are sent as bytes.
    """

    request_id: str
    inputs: Sequence[InferInput]
    wanted: Sequence[RequestedOutput] = ()
    timeout_us: int = 0
    text_bytes: int = 0
    binary: bool = False


@dataclass(frozen=True)
class InferOutput:
    """An output on its way to the client."""

    name: str
    datatype: str
    array: Array
    binary: bool


async def complete(
    model: LoadedModel, request: InferRequest, holding: Holding, executor: SmallestFirstExecutor, exchange: Exchange
) -> list[InferOutput]:
    """Checks a request, queues it and waits for its outputs.

    Args:
        model: the one that is asked.
        request: as it came.
        holding: what is made of it is counted there before it is made.
        executor: where long work on it is done.
        exchange: told which model answers, and where the time went.

    Raises:
        Fault: it is not one that this model can answer, the model failed on it, or there is no room for its answer.
    """
    exchange.asks(model.name, str(model.version))
    # Raw numbers are used where they lie, in the message; all else is made anew.
    remade = [tensor for tensor in request.inputs if tensor.raw is None or tensor.datatype == "BYTES"]
    texts = request.text_bytes + sum(len(tensor.raw) for tensor in remade if tensor.raw is not None)
    inputs, rows = await executor.run(texts, _checked_inputs, model, request)
    wanted = _checked_outputs(model, request)
    if remade:
        holding.add(sum(_memory(inputs[tensor.name]) for tensor in remade))
    holding.keep()
    arrives: asyncio.Future[dict[str, Array]] = asyncio.get_running_loop().create_future()
    job = Job(inputs, rows, request.request_id, 1000 * min(request.timeout_us, LONGEST_TIMEOUT_US), arrives)
    try:
        model.submit(job)
    except Fault as fault:
        model.statistics.failed(job.arrived, fault.reason)
        raise
    try:
        outputs = await arrives
    except asyncio.CancelledError:
        model.abandon(job)
        raise
    except Fault:
        # Else the error would hold this frame, and this frame the error: the request's bytes would stay for long.
        job.arrives = None
        del arrives
        raise
    exchange.ran(job)
    size = ranked = 0
    for output in wanted:
        size += (more := _answer_bytes(model, outputs[output.name], output))
        ranked += more if output.classes else 0
    holding.add(size)
    return await executor.run(ranked, _cut_all, model, outputs, wanted)


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


def _checked_inputs(model: LoadedModel, request: InferRequest) -> tuple[dict[str, Array], int]:
    """The inputs as arrays in the config's order, and how many rows they share."""
    config = model.config
    given: dict[str, InferInput] = {}
    for tensor in request.inputs:
        if tensor.name in given:
            raise Fault(about(request.request_id, f"input '{shown(tensor.name)}' already exists in request"))
        given[tensor.name] = tensor
    missing = [entry.name for entry in config.input if entry.name not in given]
    if len(given) != len(config.input):
        raise Fault(
            about(
                request.request_id,
                f"expected {len(config.input)} inputs but got {len(given)} inputs for model '{model.name}'. "
                f"Got input(s) {_names(sorted(given))}, but missing required input(s) {_names(missing)}. "
                "Please provide all required input(s).",
            )
        )
    if missing:
        unexpected = next(name for name in given if name not in {entry.name for entry in config.input})
        raise Fault(f"unexpected inference input '{shown(unexpected)}' for model '{model.name}'")
    arrays = {entry.name: _as_array(model, request, given[entry.name], entry) for entry in config.input}
    if not config.max_batch_size:
        return arrays, 1
    rows = {len(array) for array in arrays.values()}
    if len(rows) > 1:
        raise Fault(about(request.request_id, f"inputs of model '{model.name}' differ in batch size"))
    return arrays, rows.pop()


def _as_array(model: LoadedModel, request: InferRequest, tensor: InferInput, entry: Any) -> Array:
    batched, named = model.config.max_batch_size, f"input '{tensor.name}'"
    kind, dims = datatype(entry.data_type), ([-1] if batched else []) + list(entry.dims)
    if tensor.datatype != kind:
        raise Fault(
            about(
                request.request_id,
                f"inference {named} data-type is '{shown(tensor.datatype)}', but model '{model.name}' expects '{kind}'",
            )
        )
    if batched and tensor.shape and tensor.shape[0] > batched:
        raise Fault(about(request.request_id, f"inference request batch-size must be <= {batched} for '{model.name}'"))
    fits = len(tensor.shape) == len(dims) and all(
        size >= 0 and wanted in (-1, size) for wanted, size in zip(dims, tensor.shape, strict=True)
    )
    if not fits:
        raise Fault(
            about(
                request.request_id,
                f"unexpected shape for {named} for model '{model.name}'. Expected {_sizes(dims)}, got "
                f"{_sizes(tensor.shape)}. {ONE_SIZE_TOO_MANY if batched else ''}".rstrip(),
            )
        )
    if batched and tensor.shape[0] == 0:
        raise Fault(about(request.request_id, f"inference request batch-size must be >= 1 for '{model.name}'"))
    if tensor.raw is None:
        return from_values(tensor.values, kind, tensor.shape, tensor.name)
    array = from_bytes(tensor.raw, kind, tensor.shape)
    if array is None:
        expected = elements(tensor.shape) * np.dtype(NUMPY_TYPES[kind]).itemsize
        wanted_bytes = "the lengths of its strings" if kind == "BYTES" else str(expected)
        raise Fault(
            about(
                request.request_id,
                f"input byte size mismatch for {named} for model '{model.name}'. Expected {wanted_bytes}, "
                f"got {len(tensor.raw)}",
            )
        )
    return array


def _checked_outputs(model: LoadedModel, request: InferRequest) -> Sequence[RequestedOutput]:
    """What the client asked for, each output once, or all outputs."""
    if not request.wanted:
        return [RequestedOutput(output.name, binary=request.binary) for output in model.config.output]
    names, asked = {output.name for output in model.config.output}, set[str]()
    for output in request.wanted:
        if output.name not in names:
            raise Fault(f"unexpected inference output '{shown(output.name)}' for model '{model.name}'")
        if output.name in asked:
            raise Fault(about(request.request_id, f"output '{output.name}' already exists in request"))
        asked.add(output.name)
    return request.wanted


def _names(names: Sequence[str]) -> str:
    more = ",…" if len(names) > MOST_NAMES else ""
    return "[" + ",".join(f"'{shown(name)}'" for name in names[:MOST_NAMES]) + more + "]"


def _sizes(sizes: Sequence[int]) -> str:
    return "[" + ",".join(map(str, sizes[:LARGEST_RANK])) + "]"


def _memory(array: Array) -> int:
    """Bytes that an input takes beside the message it came in."""
    return array.nbytes + (OBJECT_BYTES * array.size + byte_size(array) if array.dtype == object else 0)


def _answer_bytes(model: LoadedModel, array: Array, wanted: RequestedOutput) -> int:
    """The size of an output in its answer, or a little more, before it is made."""
    if wanted.classes == 0:
        return byte_size(array) if wanted.binary else text_size(array)
    rows = len(array) if model.config.max_batch_size else 1
    count = min(wanted.classes, array.size // max(1, rows))
    room = WIDE_LABEL_ROOM if array.dtype == np.float64 else LABEL_ROOM
    return rows * count * (room + ESCAPED * max(map(len, model.labels.get(wanted.name, ())), default=0))


def _cut_all(model: LoadedModel, outputs: dict[str, Array], wanted: Sequence[RequestedOutput]) -> list[InferOutput]:
    return [_cut(model, outputs[output.name], output) for output in wanted]


def _cut(model: LoadedModel, array: Array, wanted: RequestedOutput) -> InferOutput:
    if wanted.classes > 0:
        array = _best(array, wanted.classes, model.labels.get(wanted.name, []), bool(model.config.max_batch_size))
    return InferOutput(wanted.name, "BYTES" if array.dtype == object else DATATYPES[array.dtype], array, wanted.binary)


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
