"""The spine of `nanocv infer`: a stream of images, in small batches, through one graph."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.engine.engine import Engine
from nanocv_cli.engine.tiles import Tiling, run_tiled
from nanocv_cli.images.resize import UnreadableImageError, open_image, open_square, resize_to_square
from nanocv_cli.images.sources import Source

# Of the images of one batch as they wait; one more may be over it.
BATCH_BYTES = 256 << 20


@dataclass(frozen=True)
class Answer:
    """One image's outcome: the graph's outputs for it, or why it could not be read.

    Attributes:
        source: the image.
        outputs: the graph's outputs, each with a leading axis of 1; empty where unreadable.
        size: width and height of the image as opened, pixels; 0, 0 where unreadable.
        image: uint8 [H,W,3] as opened; None where unreadable or not asked for.
        problem: why it was skipped; empty where it was not.
    """

    source: Source
    outputs: dict[str, NDArray[Any]]
    size: tuple[int, int] = (0, 0)
    image: NDArray[np.uint8] | None = None
    problem: str = ""


def answers(
    graph: Engine, sources: Iterable[Source], batch_size: int, keep_images: bool = False, tiling: Tiling | None = None
) -> Iterator[Answer]:
    """Answers images in their order, holding at most one batch of them in memory.

    Args:
        graph: a loaded graph.
        sources: images; consumed as answers are taken.
        batch_size: most images per batch, readable or not; at least 1. A batch whose images have come to
            `BATCH_BYTES` is run as it is.
        keep_images: whether answers carry the images as opened, for drawing on them.
        tiling: how images are cut, one at a time, in batches of tiles; None: they are read whole.
    """
    graph.expect_images()
    if tiling:
        for source in sources:
            yield _answer_tiled(graph, source, tiling, batch_size, keep_images)
        return
    batch: list[_Opened] = []
    held = 0
    for source in sources:
        batch.append(_open(graph, source, keep_images))
        held += batch[-1].held
        if len(batch) >= batch_size or held >= BATCH_BYTES:
            yield from _answer_batch(graph, batch)
            held = 0
    if batch:
        yield from _answer_batch(graph, batch)


@dataclass
class _Opened:
    """An image that waits for its batch.

    Attributes:
        source: where it came from.
        square: what the graph reads; None where it is unreadable.
        size: width and height, pixels.
        image: as opened, where it is kept.
        problem: why it is unreadable.
    """

    source: Source
    square: NDArray[np.uint8] | None = None
    size: tuple[int, int] = (0, 0)
    image: NDArray[np.uint8] | None = None
    problem: str = ""

    @property
    def held(self) -> int:
        """Bytes."""
        return sum(pixels.nbytes for pixels in (self.square, self.image) if pixels is not None)


def _open(graph: Engine, source: Source, keep_image: bool) -> _Opened:
    size, rule = graph.card.input_size, graph.card.resize
    try:
        if isinstance(source.content, np.ndarray):
            image = source.content
        elif not keep_image:
            return _Opened(source, *open_square(source.content, size, rule))
        else:
            image = open_image(source.content)
    except UnreadableImageError as error:
        return _Opened(source, problem=error.message)
    square = resize_to_square(image, size, rule)
    return _Opened(source, square, (image.shape[1], image.shape[0]), image if keep_image else None)


def _answer_batch(graph: Engine, batch: list[_Opened]) -> Iterator[Answer]:
    """Answers a batch and empties it, so that each image is dropped once its answer is."""
    squares = [opened.square for opened in batch if opened.square is not None]
    outputs = graph.run(np.stack(squares)) if squares else {}
    rows = count()
    while batch:
        opened = batch.pop(0)
        own: dict[str, NDArray[Any]] = {}
        if not opened.problem:
            row = next(rows)
            own = {name: values[row : row + 1] for name, values in outputs.items()}
        image, opened.image = opened.image, None
        yield Answer(opened.source, own, opened.size, image, opened.problem)


def _answer_tiled(graph: Engine, source: Source, tiling: Tiling, batch_size: int, keep_image: bool) -> Answer:
    try:
        image = source.content if isinstance(source.content, np.ndarray) else open_image(source.content)
    except UnreadableImageError as error:
        return Answer(source, {}, problem=error.message)
    outputs = run_tiled(graph, image, tiling, batch_size)
    return Answer(source, outputs, (image.shape[1], image.shape[0]), image if keep_image else None)
