"""Images that are decoded when a batch needs them, for sets that are too large to be kept decoded.

What is yielded is to the bit what the cache holds, in the same order; several threads decode ahead, in bounded memory.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from nanocv_cli.data.dataset import Samples
from nanocv_cli.errors import DataError
from nanocv_cli.images.resize import UnreadableImageError, open_square

# Of images that wait, decoded, for the step that takes them; but at least one batch, and at most so many.
AHEAD_BYTES, MOST_AHEAD = 256 << 20, 16
AT_ONCE = 8  # images that a thread decodes before it asks for more, at most
# Images of a split that may be found unreadable while it is trained on, before that is an error.
LOST_PART, LOST_FEW = 0.01, 16
NAMED = 10

Say = Callable[[str], None]
Places: TypeAlias = NDArray[np.int64]
# Each tells the rows of a batch that cannot be filled, and why.
Parts: TypeAlias = list[Future[list[tuple[int, str]]]]


class StreamedImages:
    """See `data.batches.Images`.

    Whether an image can be read is found out as it is decoded. In a batch, the next one of the split that can be read
    stands in for it, with its own label: the same one each time, so that a run stays a function of its seed and of its
    files. Each such image is said once; too many are an error.

    Args:
        samples: of the split.
        size: side of the squares, pixels.
        resize: how an image becomes that square (`crop` or `stretch`).
        say: is told of images that cannot be read.
    """

    def __init__(self, samples: Samples[Any], size: int, resize: str, say: Say) -> None:
        self._samples, self._size, self._resize, self._say = samples, size, resize, say
        self._lost: set[int] = set()

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, places: Any, /) -> NDArray[np.uint8]:
        """See `Images`; where images are asked for one by one, none stands in for another.

        Raises:
            DataError: one cannot be read.
        """
        wanted = np.arange(len(self))[places]
        rows = self._empty(wanted.size)
        with ThreadPoolExecutor(self._samples.paths.readers, "decode") as pool:
            for place, reason in chain(*(part.result() for part in self._begin(pool, wanted.ravel(), rows))):
                path = self._samples.paths.shown(int(wanted.ravel()[place]))
                raise DataError(f"{path}: {reason}", "replace or remove it; nanocv data check names every problem")
        return rows.reshape(*wanted.shape, *rows.shape[1:])

    def gather(self, batches: Iterable[Places]) -> Iterator[tuple[torch.Tensor, Places]]:
        """See `Images`.

        Raises:
            DataError: too many images cannot be read.
        """
        waiting: deque[tuple[Places, NDArray[np.uint8], Parts]] = deque()
        pool = ThreadPoolExecutor(self._samples.paths.readers, "decode")
        try:
            for places in batches:
                rows = self._empty(len(places))
                waiting.append((places, rows, self._begin(pool, places, rows)))
                if len(waiting) > max(1, min(MOST_AHEAD, AHEAD_BYTES // max(1, rows.nbytes))):
                    yield self._finished(*waiting.popleft())
            while waiting:
                yield self._finished(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _empty(self, count: int) -> NDArray[np.uint8]:
        return np.empty((count, self._size, self._size, 3), np.uint8)

    def _begin(self, pool: ThreadPoolExecutor, places: Places, rows: NDArray[np.uint8]) -> Parts:
        """Has `rows` filled; each part of the work tells the rows that cannot be, and why."""
        # A batch that is asked for alone keeps all readers busy: a server is waited for by many.
        step = max(1, min(AT_ONCE, -(-len(places) // self._samples.paths.readers)))

        def fill(first: int) -> list[tuple[int, str]]:
            unread = []
            for number in range(first, min(first + step, len(places))):
                try:
                    rows[number] = self._image(int(places[number]))
                except UnreadableImageError as error:
                    unread.append((number, error.message))
            return unread

        return [pool.submit(fill, first) for first in range(0, len(places), step)]

    def _image(self, place: int) -> NDArray[np.uint8]:
        return open_square(self._samples[place].image(), self._size, self._resize)[0]

    def _finished(self, places: Places, rows: NDArray[np.uint8], parts: Parts) -> tuple[torch.Tensor, Places]:
        """A batch once it is decoded, and which images it shows."""
        for number, reason in chain(*(part.result() for part in parts)):
            self._lose(int(places[number]), reason)
            places = places.copy()
            places[number], rows[number] = self._standing_in(int(places[number]))
        return torch.from_numpy(rows), places

    def _standing_in(self, lost: int) -> tuple[int, NDArray[np.uint8]]:
        for step in range(1, len(self)):
            place = (lost + step) % len(self)
            try:
                return place, self._image(place)
            except UnreadableImageError as error:
                self._lose(place, error.message)
        raise DataError(f"not one of {len(self):,} images is readable", "nanocv data check names every problem")

    def _lose(self, place: int, reason: str) -> None:
        """Counts an image that cannot be read, and says so of the first ones."""
        if place in self._lost:
            return
        self._lost.add(place)
        path, count = self._samples.paths.shown(place), len(self._lost)
        if count > max(LOST_FEW, LOST_PART * len(self)):
            raise DataError(
                f"{count:,} of {len(self):,} images cannot be read, the last of them {path}: {reason}",
                "bring the set back, or see what nanocv data check says, then nanocv train --resume",
            )
        if count <= NAMED:
            self._say(f"warning: {path}: {reason}: another image stands in for it ({count} so far)")
