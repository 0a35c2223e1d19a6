"""What a load test sends of real images: as files, or as the squares that their model reads."""

from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.bench.payload import Payload
from nanocv_cli.engine.card import METADATA_KEY, ModelCard
from nanocv_cli.errors import DataError, RequestError
from nanocv_cli.folders import files_below
from nanocv_cli.images.resize import JPEG_SUFFIXES, SUFFIXES, UnreadableImageError, open_square
from nanocv_cli.machine import expect_room
from nanocv_cli.untrusted import first_line, read_regular

MOST_IMAGES = 256  # of a folder, the first ones by name
LARGEST_FILE = 64 << 20  # bytes: what nanocv's server takes
HINT = "--input random, or a model of an entry that nanocv serve config wrote"
RANKS = {"BYTES": 2, "UINT8": 4}  # of an input with files [N,1] or with squares [N,S,S,3]
ENCODED = JPEG_SUFFIXES | {".png", ".webp"}  # what a server of image files decodes


def image_payloads(
    metadata: dict[str, Any], config: dict[str, Any] | None, model: str, rows: int, folder: Path, batched: bool
) -> list[Payload]:
    """A request for each image of a folder, in their order; of several rows, with those after it.

    Args:
        metadata: KServe's description of the model.
        config: of the model, which carries its card; None where the server does not tell it.
        model: its name.
        rows: images per request.
        folder: of images.
        batched: whether the first dimension of every input is the batch's.

    Raises:
        RequestError: the folder holds no such image, or the model takes none.
        DataError: an image cannot be read.
    """
    inputs = metadata["inputs"]
    name, kind, rank = inputs[0]["name"], inputs[0]["datatype"], len(inputs[0]["shape"])
    whole = RANKS.get(kind, 0)
    # Files may come as a list alone; of squares only one that is no batch comes without a dimension for it.
    allowed = (whole,) if kind == "UINT8" and batched else (whole, whole - 1)
    if len(inputs) > 1 or not whole or rank not in allowed:
        raise RequestError(f"{model} takes no images, so --input cannot be a folder", "--input random")
    suffixes = ENCODED if kind == "BYTES" else SUFFIXES
    paths = list(islice(files_below(folder, suffixes), MOST_IMAGES))
    if not paths:
        raise RequestError(f"{folder} holds no images to send", f"known suffixes: {' '.join(sorted(suffixes))}")
    count = rows if batched else 1
    images = _files(paths, count) if kind == "BYTES" else _squares(paths, count, config, model)
    outputs = tuple(tensor["name"] for tensor in metadata["outputs"])
    payloads = []
    for place in range(len(images)):
        array = np.stack(list(islice(cycle(images), place, place + count)))
        if rank < whole:
            array = array.reshape(-1, *array.shape[2:])
        payloads.append(Payload(model, {name: (kind, array)}, outputs, count))
    return payloads


def _files(paths: list[Path], count: int) -> list[NDArray[Any]]:
    """Images as they are, each one element of BYTES."""
    try:
        contents = [read_regular(path, LARGEST_FILE) for path in paths]
    except OSError as error:
        raise DataError(f"an image of {paths[0].parent} cannot be read: {first_line(error)}", "leave it out") from error
    expect_room(2 * count * sum(map(len, contents)), f"{len(paths)} requests", "a smaller --request-batch")
    return [np.array([content], np.object_) for content in contents]


def _squares(paths: list[Path], count: int, config: dict[str, Any] | None, model: str) -> list[NDArray[Any]]:
    """Images as their model reads them, uint8 [S,S,3]."""
    try:
        text = (config or {})["parameters"][METADATA_KEY]["string_value"]
    except (KeyError, TypeError) as error:
        raise RequestError(f"{model} carries no model card, so what it reads of images is unknown", HINT) from error
    card = ModelCard.from_metadata({METADATA_KEY: text}, model)
    expect_room(2 * len(paths) * count * card.input_size**2 * 3, f"{len(paths)} requests", "a smaller --request-batch")
    return [_square(path, card) for path in paths]


def _square(path: Path, card: ModelCard) -> NDArray[np.uint8]:
    try:
        return open_square(path, card.input_size, card.resize)[0]
    except UnreadableImageError as error:
        raise DataError(f"{path} cannot be read: {error.message}", error.hint) from error
