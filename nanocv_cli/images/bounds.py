"""What an image may be, and what decoding it may take: of one image, and of all that are decoded at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# Those that Pillow has at hand come first, the one without a signature last.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP", "TIFF", "ICO", "JPEG2000", "AVIF", "TGA")
# Above this an image is more likely an attack than a photograph.
MAX_PIXELS = 200_000_000
# Each scan of a progressive JPEG goes over all pixels again, and an empty one takes ten bytes; encoders write ten.
MOST_SCANS = 200
CONVERTED = 8  # bytes of a pixel in Pillow's three channels, and of what they are made from


@dataclass(frozen=True)
class Bounds:
    """What an image may be, and what its decoding may take, where that is less than here.

    Attributes:
        formats: those of `FORMATS` that are tried.
        pixels: the most.
        memory: bytes that decoding and conversion may take.
        scans: of a progressive JPEG.
        deadline: of `time.monotonic`, after which no more of the file is read.
    """

    formats: tuple[str, ...] = FORMATS
    pixels: int = MAX_PIXELS
    memory: int = MAX_PIXELS * CONVERTED
    scans: int = MOST_SCANS
    deadline: float = float("inf")


WIDEST = Bounds()
# Of images that anybody may send to a server: what browsers and cameras write, for each further decoder is one more
# that strangers can reach. Encoders write ten scans.
FROM_STRANGERS = Bounds(("JPEG", "PNG", "WEBP"), 50_000_000, 400 << 20, 20)
SECONDS_FOR_STRANGERS = 10.0  # of decoding one


class Budget:
    """An amount of memory that all threads together take parts of, each waiting until there is enough.

    Args:
        total: bytes.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._changed = threading.Condition()
        self._own = threading.local()

    @contextmanager
    def reserved(self, amount: int) -> Iterator[None]:
        """Holds `amount` bytes; more than there are in all is all of them, so that the largest has them alone.

        Raises:
            RuntimeError: this thread holds a part already, and might wait for itself.
        """
        if getattr(self._own, "holds", False):
            raise RuntimeError("a thread reserves memory once at a time")
        amount = min(amount, self.total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        self._own.holds = True
        try:
            yield
        finally:
            self._own.holds = False
            with self._changed:
                self._free += amount
                self._changed.notify_all()
