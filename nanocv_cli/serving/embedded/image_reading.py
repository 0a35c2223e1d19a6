"""Images that clients send as files: decoded in few threads beside the event loop, bounded, a bomb is one refusal."""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.errors import ModelError
from nanocv_cli.images.bounds import FROM_STRANGERS, Bounds
from nanocv_cli.images.image_file import SlowImageError, UnreadableImageError
from nanocv_cli.images.resize import open_square
from nanocv_cli.serving.embedded.budget import Holding
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.limits import Limits
from nanocv_cli.serving.embedded.model import LoadedModel

# A group for each format, by the name that it has in a media type.
BEGINNING = re.compile(rb"(?P<jpeg>\xff\xd8\xff)|(?P<png>\x89PNG\r\n\x1a\n)|(?P<webp>RIFF....WEBP)", re.DOTALL)

Result = TypeVar("Result")


class ImageReader:
    """Decodes images for all clients of a server; it belongs to the event loop's thread.

    Args:
        limits: of one image, and how many are decoded at a time.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._threads = ThreadPoolExecutor(limits.image_threads, "images")
        self._free = asyncio.Semaphore(limits.image_threads)

    async def square(
        self, content: bytes, card: ModelCard, holding: Holding
    ) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        """An image as the square that a model reads, upright; see `images.resize.open_square`.

        Args:
            content: a file in one of `FROM_STRANGERS`' formats.
            card: says how large the square is, and by which rule it is made.
            holding: the request's, which keeps its bytes from now on.

        Returns:
            uint8 [S,S,3], and width and height of the image, upright, in pixels.

        Raises:
            Fault: it is no such file, damaged, too large, or takes too long.
        """
        if not BEGINNING.match(content):
            raise Fault("this is no image in JPEG, PNG or WebP, which are what this server reads", Status.WRONG_TYPE)
        try:
            return await self.run(holding, self._open, content, card.input_size, card.resize)
        except SlowImageError as error:
            raise self._too_slow() from error
        except UnreadableImageError as error:
            raise Fault(f"the image cannot be read: {error.message}") from error

    async def run(self, holding: Holding, work: Callable[..., Result], *arguments: Any) -> Result:
        """What `work` on an image returns or raises, done in one of the threads when it is its turn.

        Raises:
            Fault: all was taken from the request meanwhile, or the work takes too long: it is not waited for then.
        """
        await self._free.acquire()
        try:
            holding.keep()
            future = self._threads.submit(work, *arguments)
        except BaseException:
            self._free.release()
            raise
        loop = asyncio.get_running_loop()

        def release(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                loop.call_soon_threadsafe(self._free.release)

        # A thread that nobody waits for any more is still at work, and counts until it has ended.
        future.add_done_callback(release)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._limits.image_seconds)
        except TimeoutError as error:
            raise self._too_slow() from error

    def _open(self, content: bytes, size: int, rule: str) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        limits = self._limits
        deadline = time.monotonic() + limits.image_seconds
        bounds = Bounds(FROM_STRANGERS.formats, limits.image_pixels, limits.image_memory, limits.image_scans, deadline)
        return open_square(content, size, rule, bounds)

    def _too_slow(self) -> Fault:
        seconds = self._limits.image_seconds
        return Fault(f"the image takes longer than the {seconds:g} s that reading one may take", Status.TIMED_OUT)


def expect_no_image(content: bytes | bytearray | memoryview) -> None:
    """Refuses an image's file in the place of JSON, which never begins like one.

    Raises:
        Fault: it says how an image is sent.
    """
    if found := BEGINNING.match(content):
        raise Fault(
            f"the body is an image, where JSON is expected; send it with Content-Type: image/{found.lastgroup}",
            Status.WRONG_TYPE,
        )


def card_of(model: LoadedModel) -> ModelCard:
    """The card that travels with a model's entry.

    Raises:
        Fault: there is none, or it is damaged.
    """
    try:
        return model.card
    except ModelError as error:
        raise Fault(f"{error.message}; send its tensors") from error
