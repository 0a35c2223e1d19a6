"""The one door that image files come through: what is opened, how large it may be, what its decoding may take.

Nothing here waits for a pipe, reads a device, or believes a file's size before it has been bounded. Only formats of
`bounds.FORMATS` are ever tried, of the many that Pillow knows.
"""

import io
import struct
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from nanocv_cli.errors import DataError
from nanocv_cli.images.bounds import CONVERTED, MAX_PIXELS, WIDEST, Bounds, Budget
from nanocv_cli.untrusted import first_line, open_regular, printable

# MAX_PIXELS of four bytes are 800 MB uncompressed; a larger file holds what nobody will decode.
LARGEST_FILE = 1 << 30
# What may be read before an image's size is known. WebP and AVIF are read whole, and no camera writes larger ones.
LARGEST_HEADER = 1 << 27
LARGEST_PIECE = 1 << 26
MOST_PIECES = 20_000  # that it is read in: more chunks or segments than any image has, each of which takes a while
# Bytes per pixel that decoders hold at their fullest, measured at 100 million pixels; those not named hold the image.
HELD = {"WEBP": 16, "AVIF": 16, "JPEG2000": 20, "TIFF": 8}
PROGRESSIVE = 8
PLAIN = 4  # Pillow's three channels
MOST_ROWS = 1 << 20  # Pillow holds a place in memory for each, beside its pixels, again in what it is converted to

POSTSCRIPT = (b"%!PS", b"\xc5\xd0\xd3\xc6")
ICON = b"\0\0\1\0"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
WEBP = (b"RIFF", b"WEBP")
START_OF_SCAN = b"\xff\xda"
BLOCK = 1 << 20

# More strips or tiles than any image has that is not meant to fill the memory with their list.
MOST_TIFF_VALUES = 1 << 18
TILE_WIDTH, TILE_HEIGHT = 322, 323
TIFF_WHOLE = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 16: "Q", 17: "q"}  # types of whole numbers
TIFF_PLACES = (273, 279, 324, 325)  # offsets and lengths of strips and of tiles
TIFF_SINGLE_BYTES = (1, 2, 6, 7)  # types whose values are not taken apart

# Blocks of more than 32 MiB go back to the system when they are freed; of smaller ones the C library keeps as much for
# each thread as that thread once held.
if hasattr(getattr(Image, "core", None), "set_block_size"):
    Image.core.set_block_size(64 << 20)  # type: ignore[attr-defined]
# Pillow warns above its limit and refuses above twice its limit, in every decoder.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
# A doubtful tag in a file that can be read is no news to the user; what cannot be read raises.
warnings.filterwarnings("ignore", module=r"PIL\.")

# For all images that are being decoded: one of MAX_PIXELS that has to be converted.
MEMORY = Budget(MAX_PIXELS * CONVERTED)


class UnreadableImageError(DataError):
    """An image that cannot be decoded: not an image, cut short, or too large. The message does not name the file."""

    def __init__(self, message: str, hint: str = "replace or remove the file") -> None:
        super().__init__(message, hint)


class SlowImageError(UnreadableImageError):
    """An image whose decoding takes longer than it may."""


@contextmanager
def opened_image(source: Path | bytes, bounds: Bounds = WIDEST) -> Iterator[Image.Image]:
    """An image whose format and size are known; its pixels are decoded when they are first asked for.

    The memory that decoding and conversion take is held until the block ends: only one such block per thread.

    Args:
        source: a file, or its bytes.
        bounds: of this image.

    Raises:
        UnreadableImageError: no regular file, not an image in one of the formats, cut short, or too large; whatever
            fails inside the block is taken for the image's fault.
        SlowImageError: the time for it is over.
    """
    with _identified(source, bounds) as (image, file, held):
        if image.format != "ICO":
            held.enter_context(MEMORY.reserved(_cost(image, bounds)))
        if image.info.get("progressive"):
            _check_scans(file.source, bounds.scans)
        file.is_identified = True
        yield image


def image_size(source: Path | bytes) -> tuple[int, int]:
    """Width and height as an image's header has them; the rest of the file may be anything.

    Raises:
        UnreadableImageError: see `opened_image`.
    """
    with _identified(source, WIDEST) as (image, _, _):
        _cost(image)
        return image.size


@contextmanager
def _identified(source: Path | bytes, bounds: Bounds) -> Iterator[tuple[Image.Image, "_Guarded", ExitStack]]:
    """An image whose header is read, its file, and what is given back when the block ends."""
    prefix = b""
    try:
        with ExitStack() as held:
            file = io.BytesIO(source) if isinstance(source, bytes) else held.enter_context(open_image_file(source))
            prefix = file.read(16)
            guarded = _Guarded(file, bounds.deadline)
            is_icon = prefix.startswith(ICON) and "ICO" in bounds.formats
            if is_icon:
                # An icon is decoded as it is opened, and says nothing of its size before.
                held.enter_context(MEMORY.reserved(MEMORY.total))
            elif prefix.startswith(TIFF):
                _check_tiff(guarded)
            elif (prefix[:4], prefix[8:12]) == WEBP:
                _check_webp(guarded, bounds)
            formats = [name for name in bounds.formats if (name == "ICO") == is_icon]
            with Image.open(guarded, formats=formats) as image:  # type: ignore[arg-type]
                yield image, guarded, held
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise UnreadableImageError(_reason(prefix, error)) from error


def open_image_file(path: Path) -> io.BufferedReader:
    """A regular file of at most `LARGEST_FILE` bytes.

    Raises:
        UnreadableImageError: it is something else, larger, or cannot be opened.
    """
    try:
        file = open_regular(path)
    except (OSError, ValueError) as error:
        raise UnreadableImageError(_reason(b"", error)) from error
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if size > LARGEST_FILE:
        file.close()
        raise UnreadableImageError(f"larger than the {LARGEST_FILE >> 30} GiB that nanocv opens as an image")
    return file


class _Guarded:
    """A file that Pillow reads no more of than it should, and no longer.

    Attributes:
        source: the file itself.
        is_identified: whether the image's size is known and bounded. Before, `LARGEST_HEADER` bytes are read in all, in
            `MOST_PIECES`; after, `LARGEST_PIECE` at a time, for a strip's length is what the file says.
    """

    def __init__(self, file: BinaryIO, deadline: float) -> None:
        self.source, self._deadline = file, deadline
        self._size = file.seek(0, io.SEEK_END)
        self._left, self._pieces = LARGEST_HEADER, 0
        self.is_identified = False
        self.seek, self.tell, self.fileno = file.seek, file.tell, file.fileno
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        if time.monotonic() > self._deadline:
            raise SlowImageError("decoding it takes too long")
        if self.is_identified:
            return self.source.read(min(size, LARGEST_PIECE))
        rest = max(0, self._size - self.source.tell())
        self._left -= rest if size < 0 else min(size, rest)
        if self._left < 0:
            raise UnreadableImageError(f"its header is longer than {LARGEST_HEADER >> 20} MiB")
        self._pieces += 1
        if self._pieces > MOST_PIECES:
            raise UnreadableImageError(f"its header is in more than {MOST_PIECES:,} pieces")
        return self.source.read(size)


def _cost(image: Image.Image, bounds: Bounds = WIDEST) -> int:
    """Bytes that decoding and conversion take.

    Raises:
        UnreadableImageError: more than there are.
    """
    pixels = image.width * image.height
    # An image that lies on its side is turned, which takes a second one.
    plain = image.mode == "RGB" and "exif" not in image.info
    progressive = PROGRESSIVE if image.info.get("progressive") else 0
    held = max(HELD.get(image.format or "", 0), progressive, PLAIN if plain else CONVERTED)
    _check_pixels(pixels, held, image.format or "", bounds)
    if image.height > MOST_ROWS:
        raise UnreadableImageError(f"its {image.height:,} rows are more than the {MOST_ROWS:,} that nanocv opens")
    return pixels * held


def _check_pixels(pixels: int, held: int, format: str, bounds: Bounds) -> None:
    most = min(bounds.pixels, min(bounds.memory, MEMORY.total) // held)
    if pixels > most:
        raise UnreadableImageError(f"more than the {most // 1_000_000} million pixels that nanocv opens as {format}")


def _check_scans(file: BinaryIO, most: int) -> None:
    # Entropy-coded bytes are stuffed: what looks like a marker is one.
    file.seek(0)
    scans, last = 0, b""
    while block := file.read(BLOCK):
        scans += (last + block).count(START_OF_SCAN)
        last = block[-1:] if block.endswith(START_OF_SCAN[:1]) else b""
    if scans > most:
        raise UnreadableImageError(f"its {scans:,} scans are more than the {most} that nanocv decodes")


def _reason(prefix: bytes, error: Exception) -> str:
    """Why an image could not be opened, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return printable(error.strerror)
    if isinstance(error, Image.DecompressionBombError):
        return f"more than the {MAX_PIXELS // 1_000_000} million pixels that nanocv opens"
    if isinstance(error, UnidentifiedImageError):
        if prefix.startswith(POSTSCRIPT):
            return "PostScript is a program, which nanocv does not run"
        return "not an image in a format that nanocv reads" if prefix else "the file is empty"
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    return "the file is cut short" if isinstance(error, struct.error) else first_line(error)


def _check_webp(file: _Guarded, bounds: Bounds) -> None:
    """Looks at the size that a WebP file gives of itself (RFC 9649): its decoder takes memory for it as it is opened.

    The file is left at its start.

    Raises:
        UnreadableImageError: it is too large.
        struct.error: it is cut short.
    """
    file.seek(12)
    kind, content = struct.unpack("<4s4x10s", file.read(18))
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(content[place : place + 3], "little") for place in (4, 7))
    elif kind == b"VP8L":
        bits = int.from_bytes(content[1:5], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (size & 0x3FFF for size in struct.unpack("<6x2H", content))
    _check_pixels(width * height, HELD["WEBP"], "WEBP", bounds)
    file.seek(0)


def _check_tiff(file: _Guarded) -> None:
    """Looks at what a TIFF file says of itself before Pillow believes it: its first directory (TIFF 6.0; BigTIFF).

    The file is left at its start. A tile is decoded whole, however small the image is.

    Raises:
        ValueError: lists that no image has, or a tile that is too large.
        struct.error: it is cut short.
    """
    file.seek(0)
    order = "<" if file.read(2) == b"II" else ">"
    big = struct.unpack(f"{order}H", file.read(2))[0] == 43
    if big:
        file.seek(8)
    (offset,) = struct.unpack(f"{order}{'Q' if big else 'L'}", file.read(8 if big else 4))
    file.seek(offset)
    (count,) = struct.unpack(f"{order}{'Q' if big else 'H'}", file.read(8 if big else 2))
    if count > 1 << 16:
        raise ValueError(f"its directory has {count:,} entries")
    layout = f"{order}HH{'Q8s' if big else 'L4s'}"
    content = file.read(count * struct.calcsize(layout))
    sides = {TILE_WIDTH: 1, TILE_HEIGHT: 1}
    for tag, kind, values, value in struct.iter_unpack(layout, content):
        if values > MOST_TIFF_VALUES and (kind not in TIFF_SINGLE_BYTES or tag in TIFF_PLACES):
            raise ValueError(f"its tag {tag} has {values:,} values")
        if tag in sides:
            if kind not in TIFF_WHOLE:
                raise ValueError(f"its tag {tag} is no whole number")
            sides[tag] = max(sides[tag], struct.unpack_from(order + TIFF_WHOLE[kind], value.ljust(8, b"\0"))[0])
    if sides[TILE_WIDTH] * sides[TILE_HEIGHT] > MAX_PIXELS:
        raise ValueError(f"its tiles are {sides[TILE_WIDTH]} x {sides[TILE_HEIGHT]} pixels")
    file.seek(0)
