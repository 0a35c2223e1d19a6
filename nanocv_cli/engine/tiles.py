"""A large image answered in overlapping tiles, in the memory of the image, its answer and one batch of tiles.

What becomes of the answers is for the model's task to say: see `MergeTiles`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.engine.engine import Engine
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


@dataclass(frozen=True)
class Tile:
    """A part of an image, by its rows and columns."""

    down: Span
    across: Span


@dataclass(frozen=True)
class TileAnswer:
    """A graph's outputs for one tile, by name, each with a leading axis of 1."""

    tile: Tile
    outputs: dict[str, NDArray[Any]]


# Puts the answers for all tiles of an image of a width and height, in pixels, together to the outputs of one for all
# of it, each with a leading axis of 1. The answers are made as they are taken.
MergeTiles = Callable[[Iterable[TileAnswer], tuple[int, int]], dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class Tiling:
    """How images are cut and their answers put together.

    Attributes:
        side: of a tile, pixels of the image.
        merge: what the model's task makes of the answers.
    """

    side: int
    merge: MergeTiles


def run_tiled(graph: Engine, image: NDArray[np.uint8], tiling: Tiling, batch_size: int) -> dict[str, NDArray[Any]]:
    """The outputs of a graph for an image that is too large, or shows things too small, to be read at once.

    Args:
        graph: the model.
        image: uint8 [H,W,3].
        tiling: each tile is resized to the square that the graph reads.
        batch_size: tiles per run.

    Returns:
        outputs by name, each with a leading axis of 1.

    Raises:
        ModelError: the graph fails.
    """
    return tiling.merge(_answers(graph, image, tiling.side, batch_size), (image.shape[1], image.shape[0]))


def _answers(graph: Engine, image: NDArray[np.uint8], side: int, batch_size: int) -> Iterator[TileAnswer]:
    height, width = image.shape[:2]
    tiles = (Tile(down, across) for down in spans(height, side) for across in spans(width, side))
    while batch := list(islice(tiles, batch_size)):
        squares = [
            resize_to_square(
                image[tile.down.start : tile.down.stop, tile.across.start : tile.across.stop],
                graph.card.input_size,
                "stretch",
            )
            for tile in batch
        ]
        outputs = graph.run(np.stack(squares))
        for row, tile in enumerate(batch):
            yield TileAnswer(tile, {name: values[row : row + 1] for name, values in outputs.items()})
