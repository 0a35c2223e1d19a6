"""Inferences on entries whose clients send images as files: these are decoded, and boxes put into their pixels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nanocv_cli.images.resize import boxes_in_pixels
from nanocv_cli.serving.embedded.asking import (
    FOR_BOXES,
    ORIGINAL_PIXELS,
    InferInput,
    InferRequest,
    as_array,
    named_inputs,
)
from nanocv_cli.serving.embedded.background import SmallestFirstExecutor
from nanocv_cli.serving.embedded.budget import Holding
from nanocv_cli.serving.embedded.encoding import byte_size
from nanocv_cli.serving.embedded.exchange import Exchange
from nanocv_cli.serving.embedded.faults import Fault, about
from nanocv_cli.serving.embedded.image_reading import ImageReader
from nanocv_cli.serving.embedded.inference import InferOutput, complete
from nanocv_cli.serving.embedded.model import LoadedModel
from nanocv_cli.serving.repository.encoded_images import BOXES


async def answer_files(
    model: LoadedModel,
    request: InferRequest,
    holding: Holding,
    executor: SmallestFirstExecutor,
    exchange: Exchange,
    reader: ImageReader,
) -> list[InferOutput]:
    """`inference.complete` for a model whose entry takes images as files: they become what its graph reads.

    Args:
        model: one that `takes_files`.
        request: as it came.
        holding: what is made of it is counted there before it is made.
        executor: where long work on it is done.
        exchange: told which model answers, and where the time went.
        reader: decodes the images.

    Raises:
        Fault: as there, or one of the images cannot be read.
    """
    parameters = dict(request.parameters)
    in_pixels = parameters.pop(ORIGINAL_PIXELS, False)
    if not isinstance(in_pixels, bool):
        raise Fault(f"Unable to parse parameter '{ORIGINAL_PIXELS}': expected true or false")
    boxes = _boxes(model) if in_pixels else ()
    images, sizes = await _decoded(model, request, holding, executor, reader)
    decoded = replace(request, inputs=[images], text_bytes=0, parameters=parameters)
    outputs = await complete(model, decoded, holding, executor, exchange)
    return [_in_pixels(output, sizes, model.card.resize) if output.name in boxes else output for output in outputs]


async def _decoded(
    model: LoadedModel, request: InferRequest, holding: Holding, executor: SmallestFirstExecutor, reader: ImageReader
) -> tuple[InferInput, list[tuple[int, int]]]:
    """What the graph reads of a request's images, and their widths and heights in pixels."""
    entry = model.config.input[0]
    tensor = named_inputs(model, request)[entry.name]
    # As OpenVINO's server has it: a list of files. Triton's shapes end in the 1 of the config.
    if len(tensor.shape) == 1 and model.config.max_batch_size:
        tensor = replace(tensor, shape=(*tensor.shape, 1))
    files = await executor.run(request.worked_on, as_array, model, request, tensor, entry)
    side, count = model.card.input_size, files.size
    holding.add(byte_size(files) + 3 * count * side**2)
    squares, sizes = np.empty((count, side, side, 3), np.uint8), []
    for place, content in enumerate(files.flat):
        try:
            squares[place], size = await reader.square(content, model.card, holding)
        except Fault as fault:
            which = f"image {place + 1} of {count}: " if count > 1 else ""
            raise Fault(about(request.request_id, f"{which}{fault.message}"), fault.status, fault.reason) from fault
        sizes.append(size)
    return InferInput(entry.name, "UINT8", squares.shape, squares.data.cast("B")), sizes


def _boxes(model: LoadedModel) -> Sequence[str]:
    """The outputs of a model that hold boxes.

    Raises:
        Fault: there are none.
    """
    parameter = model.config.parameters.get(BOXES)
    if parameter is None:
        raise Fault(f"{FOR_BOXES}; '{model.name}' answers none")
    names: list[str] = parameter.string_value.split(",")
    return names


def _in_pixels(output: InferOutput, sizes: Sequence[tuple[int, int]], rule: str) -> InferOutput:
    """Boxes as shares of the square, float [N,K,4] x0 y0 x1 y1, in pixels of the images."""
    if output.array.dtype.kind != "f" or output.array.ndim != 3 or output.array.shape[2] != 4:
        raise Fault(f"output '{output.name}' holds no boxes that could be in pixels")
    return replace(output, array=boxes_in_pixels(output.array, sizes, rule))
