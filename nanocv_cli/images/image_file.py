"""The one door that image files come through: what is opened, how large it may be, what its decoding may take.

Nothing here waits for a pipe, reads a device, or believes a file's size before it has been bounded. Only formats of the
list below are ever tried, of the many that Pillow knows.
"""

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from nanocv_cli.errors import DataError
from nanocv_cli.images.budget import Budget
from nanocv_cli.images.tiff import check_tiff
from nanocv_cli.untrusted import first_line, open_regular, printable

# Those that Pillow has at hand come first, the one without a signature last.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP", "TIFF", "ICO", "JPEG2000", "AVIF", "TGA")
# Above this an image is more likely an attack than a photograph.
MAX_PIXELS = 200_000_000
# MAX_PIXELS of four bytes are 800 MB uncompressed; a larger file holds what nobody will decode.
LARGEST_FILE = 1 << 30
# What may be read before an image's size is known. WebP and AVIF are read whole, and no camera writes larger ones.
LARGEST_HEADER = 1 << 27
LARGEST_PIECE = 1 << 26
# Each scan of a progressive JPEG goes over all pixels again, and an empty one takes ten bytes; encoders write ten.
MOST_SCANS = 200
# Bytes per pixel that decoders hold at their fullest, measured at 100 million pixels; those not named hold the image.
HELD = {"WEBP": 16, "AVIF": 16, "JPEG2000": 20, "TIFF": 8}
PROGRESSIVE = 8
PLAIN, CONVERTED = 4, 8  # Pillow's three channels; the same and what they are made from
# For all images that are being decoded: one of MAX_PIXELS that has to be converted.
MEMORY = Budget(MAX_PIXELS * CONVERTED)

POSTSCRIPT = (b"%!PS", b"\xc5\xd0\xd3\xc6")
ICON = b"\0\0\1\0"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
START_OF_SCAN = b"\xff\xda"
BLOCK = 1 << 20

# Blocks of more than 32 MiB go back to the system when they are freed; of smaller ones the C library keeps as much for
# each thread as that thread once held.
if hasattr(getattr(Image, "core", None), "set_block_size"):
    Image.core.set_block_size(64 << 20)  # type: ignore[attr-defined]
# Pillow warns above its limit and refuses above twice its limit, in every decoder.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
# A doubtful tag in a file that can be read is no news to the user; what cannot be read raises.
warnings.filterwarnings("ignore", module=r"PIL\.")


class UnreadableImageError(DataError):
    """An image that cannot be decoded: not an image, cut short, or too large. The message does not name the file."""

    def __init__(self, message: str, hint: str = "replace or remove the file") -> None:
        super().__init__(message, hint)


@contextmanager
def opened_image(source: Path | bytes) -> Iterator[Image.Image]:
    """An image whose format and size are known; its pixels are decoded when they are first asked for.

    The memory that decoding and conversion take is held until the block ends: only one such block per thread.

    Args:
        source: a file, or its bytes.

    Raises:
        UnreadableImageError: no regular file, not an image in one of `FORMATS`, cut short, or too large; whatever
            fails inside the block is taken for the image's fault.
    """
    with _identified(source) as (image, file, held):
        if image.format != "ICO":
            held.enter_context(MEMORY.reserved(_cost(image)))
        if image.info.get("progressive"):
            _check_scans(file.source)
        file.is_identified = True
        yield image


def image_size(source: Path | bytes) -> tuple[int, int]:
    """Width and height as an image's header has them; the rest of the file may be anything.

    Raises:
        UnreadableImageError: see `opened_image`.
    """
    with _identified(source) as (image, _, _):
        _cost(image)
        return image.size


@contextmanager
def _identified(source: Path | bytes) -> Iterator[tuple[Image.Image, "_Guarded", ExitStack]]:
    """An image whose header is read, its file, and what is given back when the block ends."""
    prefix = b""
    try:
        with ExitStack() as held:
            file = io.BytesIO(source) if isinstance(source, bytes) else held.enter_context(open_image_file(source))
            prefix = file.read(16)
            guarded = _Guarded(file)
            is_icon = prefix.startswith(ICON)
            if is_icon:
                # An icon is decoded as it is opened, and says nothing of its size before.
                held.enter_context(MEMORY.reserved(MEMORY.total))
            elif prefix.startswith(TIFF):
                check_tiff(guarded, MAX_PIXELS)
            formats = ["ICO"] if is_icon else FORMATS
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
    """A file that Pillow reads no more of than it should.

    Attributes:
        source: the file itself.
        is_identified: whether the image's size is known and bounded. Before, `LARGEST_HEADER` bytes are read in all;
            after, `LARGEST_PIECE` at a time, for a strip's length is what the file says.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.source = file
        self._size = file.seek(0, io.SEEK_END)
        self._left = LARGEST_HEADER
        self.is_identified = False
        self.seek, self.tell, self.fileno = file.seek, file.tell, file.fileno
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        if self.is_identified:
            return self.source.read(min(size, LARGEST_PIECE))
        rest = max(0, self._size - self.source.tell())
        self._left -= rest if size < 0 else min(size, rest)
        if self._left < 0:
            raise UnreadableImageError(f"its header is longer than {LARGEST_HEADER >> 20} MiB")
        return self.source.read(size)


def _cost(image: Image.Image) -> int:
    """Bytes that decoding and conversion take.

    Raises:
        UnreadableImageError: more than there are.
    """
    pixels = image.width * image.height
    # An image that lies on its side is turned, which takes a second one.
    plain = image.mode == "RGB" and "exif" not in image.info
    progressive = PROGRESSIVE if image.info.get("progressive") else 0
    held = max(HELD.get(image.format or "", 0), progressive, PLAIN if plain else CONVERTED)
    most = min(MAX_PIXELS, MEMORY.total // held)
    if pixels > most:
        raise UnreadableImageError(
            f"more than the {most // 1_000_000} million pixels that nanocv opens as {image.format}"
        )
    return pixels * held


def _check_scans(file: BinaryIO) -> None:
    # Entropy-coded bytes are stuffed: what looks like a marker is one.
    file.seek(0)
    scans, last = 0, b""
    while block := file.read(BLOCK):
        scans += (last + block).count(START_OF_SCAN)
        last = block[-1:] if block.endswith(START_OF_SCAN[:1]) else b""
    if scans > MOST_SCANS:
        raise UnreadableImageError(f"its {scans:,} scans are more than the {MOST_SCANS} that nanocv decodes")


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
