"""A large image answered in overlapping tiles, in the memory of the image, its answer and one batch of tiles."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nanocv_cli.engine.graph import Graph
from nanocv_cli.images.resize import resize_to_square

OVERLAP = 0.25  # of a tile's side: what lies near an edge is answered by the tile that sees further around it


@dataclass(frozen=True)
class Span:
    """A tile along one axis: it sees `start` to `stop` and answers for `first` to `last`, pixels."""

    start: int
    stop: int
    first: int
    last: int


def spans(length: int, tile: int) -> list[Span]:
    """Tiles that overlap by at least a quarter and answer for every pixel exactly once.

    Args:
        length: of the image along the axis, pixels.
        tile: side of a tile, pixels; a shorter image is one tile.
    """
    side = min(tile, length)
    step = max(1, int(side * (1.0 - OVERLAP)))
    starts = [round(float(start)) for start in np.linspace(0, length - side, 1 + -(-(length - side) // step))]
    edges = [0, *((left + side + right) // 2 for left, right in pairwise(starts)), length]
    return [Span(start, start + side, *edge) for start, edge in zip(starts, pairwise(edges), strict=True)]


def run_tiled(graph: Graph, image: NDArray[np.uint8], tile: int, batch_size: int) -> dict[str, NDArray[Any]]:
    """The outputs of a graph that answers for every pixel, put together from tiles in the image's own size.

    Args:
        graph: a graph whose outputs are [N,S,S].
        image: uint8 [H,W,3].
        tile: side of a tile, pixels of the image; it is resized to the square that the graph reads.
        batch_size: tiles per run.

    Returns:
        outputs [1,H,W] by name, whole numbers as they are and the others as float16.

    Raises:
        ModelError: the graph fails.
    """
    height, width = image.shape[:2]
    whole: dict[str, NDArray[Any]] = {}
    places = ((down, across) for down in spans(height, tile) for across in spans(width, tile))
    for batch in _batches(places, batch_size):
        squares = [
            resize_to_square(
                image[down.start : down.stop, across.start : across.stop], graph.card.input_size, "stretch"
            )
            for down, across in batch
        ]
        for name, rows in graph.run(np.stack(squares)).items():
            kind = rows.dtype if np.issubdtype(rows.dtype, np.integer) else np.dtype(np.float16)
            target = whole.setdefault(name, np.empty((1, height, width), kind))
            for (down, across), row in zip(batch, rows, strict=True):
                seen = Image.fromarray(row).resize(
                    (across.stop - across.start, down.stop - down.start), Image.Resampling.NEAREST
                )
                target[0, down.first : down.last, across.first : across.last] = np.asarray(seen)[
                    down.first - down.start : down.last - down.start,
                    across.first - across.start : across.last - across.start,
                ]
    return whole


def _batches(places: Iterator[tuple[Span, Span]], size: int) -> Iterator[list[tuple[Span, Span]]]:
    while batch := list(islice(places, size)):
        yield batch
