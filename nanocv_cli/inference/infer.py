"""The spine of `nanocv infer`: a stream of pictures, in small batches, through one graph."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.inference.images import UnreadableImageError, open_image, resize_to_square
from nanocv_cli.inference.runner import Runner
from nanocv_cli.inference.sources import Source
from nanocv_cli.inference.tiles import run_tiled


@dataclass(frozen=True)
class Answer:
    """One picture's outcome: the graph's outputs for it, or why it could not be read.

    Attributes:
        source: the picture.
        outputs: the graph's outputs, each with a leading axis of 1; empty where unreadable.
        size: width and height of the picture as opened, pixels; 0, 0 where unreadable.
        image: uint8 [H,W,3] as opened; None where unreadable or not asked for.
        problem: why it was skipped; empty where it was not.
    """

    source: Source
    outputs: dict[str, NDArray[Any]]
    size: tuple[int, int] = (0, 0)
    image: NDArray[np.uint8] | None = None
    problem: str = ""


def answers(
    runner: Runner, sources: Iterable[Source], batch_size: int, keep_images: bool = False, tile: int = 0
) -> Iterator[Answer]:
    """Answers pictures in their order, holding at most one batch of them in memory.

    Args:
        runner: a loaded graph.
        sources: pictures; consumed as answers are taken.
        batch_size: pictures per batch, readable or not; at least 1.
        keep_images: whether answers carry the pictures as opened, for drawing on them.
        tile: side of the tiles that each picture is cut into, pixels (see `tiles.run_tiled`); 0: pictures are read
            whole. One picture at a time, in batches of tiles.
    """
    stream = iter(sources)
    while batch := list(islice(stream, 1 if tile else batch_size)):
        if tile:
            yield _answer_tiled(runner, batch[0], tile, batch_size, keep_images)
        else:
            yield from _answer_batch(runner, batch, keep_images)


def _answer_tiled(runner: Runner, source: Source, tile: int, batch_size: int, keep_image: bool) -> Answer:
    try:
        image = open_image(source.content)
    except UnreadableImageError as error:
        return Answer(source, {}, problem=error.message)
    outputs = run_tiled(runner, image, tile, batch_size)
    return Answer(source, outputs, (image.shape[1], image.shape[0]), image if keep_image else None)


def _answer_batch(runner: Runner, batch: list[Source], keep_images: bool) -> Iterator[Answer]:
    card = runner.card
    squares: list[NDArray[np.uint8]] = []
    images: dict[int, NDArray[np.uint8]] = {}
    problems: dict[int, str] = {}
    sizes: dict[int, tuple[int, int]] = {}
    for index, source in enumerate(batch):
        try:
            image = open_image(source.content)
        except UnreadableImageError as error:
            problems[index] = error.message
            continue
        sizes[index] = (image.shape[1], image.shape[0])
        squares.append(resize_to_square(image, card.input_size, card.resize))
        if keep_images:
            images[index] = image
    outputs = runner.run(np.stack(squares)) if squares else {}
    row = 0
    for index, source in enumerate(batch):
        if index in problems:
            yield Answer(source, {}, problem=problems[index])
            continue
        own = {name: rows[row : row + 1] for name, rows in outputs.items()}
        yield Answer(source, own, sizes[index], images.pop(index, None))
        row += 1
