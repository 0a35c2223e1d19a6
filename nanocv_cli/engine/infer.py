"""The spine of `nanocv infer`: a stream of images, in small batches, through one graph.

The next images are decoded by threads of their own while the graph answers a batch.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.engine.engine import Engine
from nanocv_cli.engine.tiles import Tiling, run_tiled
from nanocv_cli.images.resize import UnreadableImageError, open_both, open_image, open_square, resize_to_square
from nanocv_cli.images.sources import Source
from nanocv_cli.machine import usable_processors

# Of a batch's images, and of those that are decoded for the next; one more each may be over it, and what is being
# decoded.
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
    graph: Engine,
    sources: Iterable[Source],
    batch_size: int,
    keep_images: bool = False,
    tiling: Tiling | None = None,
    decoders: int = 0,
) -> Iterator[Answer]:
    """Answers images in their order, holding at most two batches of them in memory.

    Args:
        graph: a loaded graph.
        sources: images; taken up to two batches before their answers are.
        batch_size: most images per batch, readable or not; at least 1. A batch whose images have come to
            `BATCH_BYTES` is run as it is.
        keep_images: whether answers carry the images as opened, for drawing on them.
        tiling: how images are cut, one at a time, in batches of tiles; None: they are read whole.
        decoders: threads that decode; 0: as many as there are processors.
    """
    graph.expect_images()
    if tiling:
        for source in sources:
            yield _answer_tiled(graph, source, tiling, batch_size, keep_images)
        return
    with _Decoding(graph, sources, 2 * batch_size, keep_images, decoders or usable_processors()) as decoding:
        while batch := decoding.take(batch_size):
            yield from _answer_batch(graph, batch)


class _Decoding:
    """Images that are decoded ahead of their turn.

    Args:
        graph: what will read them.
        sources: the images.
        most: images that are taken, waiting or being decoded at a time.
        keep_images: whether they are kept as opened.
        decoders: threads, at least 1.
    """

    def __init__(self, graph: Engine, sources: Iterable[Source], most: int, keep_images: bool, decoders: int) -> None:
        self._graph, self._sources, self._most, self._keep_images = graph, iter(sources), most, keep_images
        self._pool = ThreadPoolExecutor(min(decoders, most), "decode")
        self._ahead: deque[Future[_Opened] | Source] = deque()
        self._waiting = 0  # bytes of those ahead that are decoded
        self._counting = threading.Lock()

    def __enter__(self) -> "_Decoding":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def take(self, most: int) -> "list[_Opened]":
        """The next images in their order, decoded; [] at the end. Those after them are decoded meanwhile.

        Args:
            most: how many, at least 1; fewer where they have come to `BATCH_BYTES`. So a batch depends on its images
                alone, and not on who was first.
        """
        taken: list[_Opened] = []
        held = 0
        while len(taken) < most and held < BATCH_BYTES:
            self._begin(len(taken))
            if not self._ahead:
                break
            ahead = self._ahead.popleft()
            taken.append(self._open(ahead) if isinstance(ahead, Source) else ahead.result())
            held += taken[-1].held
            with self._counting:
                self._waiting -= taken[-1].held
        self._begin(len(taken))
        return taken

    def _begin(self, taken: int) -> None:
        """Begins as many images as may be held beside those that were taken, at least the next one."""
        while not self._ahead or (taken + len(self._ahead) < self._most and self._waiting < BATCH_BYTES):
            try:
                source = next(self._sources, None)
            except Exception as error:  # raised in its turn, behind the answers to the images before
                self._ahead.append(_failed(error))
                return
            if source is None:
                return
            # What has to be waited for is read in its turn: the answers before it shall not wait, and Ctrl-C ends it.
            self._ahead.append(source if callable(source.content) else self._pool.submit(self._open, source))

    def _open(self, source: Source) -> "_Opened":
        opened = _open(self._graph, source, self._keep_images)
        with self._counting:
            self._waiting += opened.held
        return opened


def _failed(error: Exception) -> "Future[_Opened]":
    future: Future[_Opened] = Future()
    future.set_exception(error)
    return future


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
            square = resize_to_square(image, size, rule)
            return _Opened(source, square, (image.shape[1], image.shape[0]), image if keep_image else None)
        opened = open_both if keep_image else open_square
        return _Opened(source, *opened(source.file, size, rule))
    except UnreadableImageError as error:
        return _Opened(source, problem=error.message)


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
        image = source.content if isinstance(source.content, np.ndarray) else open_image(source.file)
    except UnreadableImageError as error:
        return Answer(source, {}, problem=error.message)
    outputs = run_tiled(graph, image, tiling, batch_size)
    return Answer(source, outputs, (image.shape[1], image.shape[0]), image if keep_image else None)
