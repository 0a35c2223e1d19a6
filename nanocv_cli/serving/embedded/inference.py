"""An inference, whatever protocol its request came by: queued, waited for, cut to what was asked for."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nanocv_cli.engine.signature import NUMPY_TYPES
from nanocv_cli.serving.embedded.asking import Asked, InferRequest, RequestedOutput, checked
from nanocv_cli.serving.embedded.background import SmallestFirstExecutor
from nanocv_cli.serving.embedded.budget import Holding
from nanocv_cli.serving.embedded.encoding import DATATYPES, ESCAPED, Array, byte_size, text_size
from nanocv_cli.serving.embedded.exchange import Exchange
from nanocv_cli.serving.embedded.faults import Fault
from nanocv_cli.serving.embedded.job_queue import Job
from nanocv_cli.serving.embedded.model import LoadedModel
from nanocv_cli.serving.embedded.scheduler import Finish

# The most characters of `value:index:` before a label, the value with all its digits: those of FP64 may be 309.
LABEL_ROOM, WIDE_LABEL_ROOM = 80, 350
NUMBERS = {np.dtype(kind).kind for kind in NUMPY_TYPES.values()} - {"O"}


@dataclass(eq=False, slots=True)
class InferOutput:
    """An output on its way to the client."""

    name: str
    datatype: str
    array: Array
    binary: bool


async def complete(
    model: LoadedModel, request: InferRequest, holding: Holding, executor: SmallestFirstExecutor, exchange: Exchange
) -> list[InferOutput]:
    """Checks a request, queues it and waits for its outputs; see `answered`."""
    asked = await executor.run(request.worked_on, checked, model, request)
    return await answered(model, asked, holding, executor, exchange)


async def answered(
    model: LoadedModel, asked: Asked, holding: Holding, executor: SmallestFirstExecutor, exchange: Exchange
) -> list[InferOutput]:
    """Queues what is asked and waits for its outputs.

    Args:
        model: the one that is asked.
        asked: of it.
        holding: what is made of it is counted as soon as it is made, an answer before it is cut out of the outputs.
        executor: where long work on it is done.
        exchange: told which model answers, and where the time went.

    Raises:
        Fault: the model failed on it, or there is no room for its answer.
    """
    exchange.asks(model.name, str(model.version))
    if asked.made_bytes:
        holding.add(asked.made_bytes)
    holding.keep()
    arrives: asyncio.Future[dict[str, Array]] = asyncio.get_running_loop().create_future()
    job = Job(asked.inputs, asked.rows, asked.request_id, asked.timeout_ns, arrives, settings=asked.settings)
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
    for output in asked.wanted:
        size += (more := _answer_bytes(model, outputs[output.name], output))
        ranked += more if output.classes else 0
    holding.add(size)
    return await executor.run(ranked, _cut_all, model, outputs, asked.wanted)


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
