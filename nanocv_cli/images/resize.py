"""Any image file as uint8 RGB, and any image as the square a model reads.

Training caches are filled by these same functions, so what a network was trained on is what inference feeds it.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nanocv_cli.images import RESIZE_RULES
from nanocv_cli.images.bounds import MAX_PIXELS, WIDEST, Bounds
from nanocv_cli.images.image_file import UnreadableImageError, opened_image
from nanocv_cli.images.pixels import as_array, eight_bit, turn_of, turned, turned_size

__all__ = [
    "JPEG_SUFFIXES",
    "MAX_PIXELS",
    "SUFFIXES",
    "UnreadableImageError",
    "boxes_in_pixels",
    "measure_image",
    "open_both",
    "open_image",
    "open_square",
    "resize_to_square",
    "square_box",
]

# A smaller image is decoded in milliseconds, and read as it always was.
REDUCED_FROM = 1 << 20  # pixels
# Bilinear resizing takes from a reduced image what it would take from the whole one, as long as it still shrinks it.
REDUCED_GAP = 1.5
JPEG_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})
# Files of these names count as images when a folder is walked; a file that is named by itself is opened whatever its
# name. Fixed, so that a folder holds the same images on every machine.
SUFFIXES = JPEG_SUFFIXES | {
    *(".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".tga", ".ico", ".jp2", ".avif")
}


def open_image(source: Path | bytes) -> NDArray[np.uint8]:
    """Decodes an image: upright (EXIF), alpha over white, the first frame of an animation; see `pixels.eight_bit`.

    Args:
        source: a file, or its bytes.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        UnreadableImageError: see `image_file.opened_image`.
    """
    with opened_image(source) as image:
        turn = turn_of(image)
        return as_array(turned(eight_bit(image), turn))


def open_square(
    source: Path | bytes, size: int, rule: str, bounds: Bounds = WIDEST
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The square a model reads of an image file: what caches, inference and calibration all read.

    It is `resize_to_square(open_image(source), size, rule)`, in less than half of the memory, but for JPEGs of at least
    `REDUCED_FROM` pixels: those are decoded at a half, a quarter or an eighth of their size where that is at least
    `REDUCED_GAP` times the square, by the decoder's scaled inverse cosine transform. A channel then differs by less
    than 1 of 255 on average.

    Args:
        source: a file, or its bytes.
        size: side of the square, pixels.
        rule: see `resize_to_square`.
        bounds: of this image, where it comes from strangers.

    Returns:
        uint8 [size, size, 3], and width and height of the image, upright.

    Raises:
        UnreadableImageError: see `image_file.opened_image`.
        ValueError: there is no such rule.
    """
    _check_rule(rule)
    with opened_image(source, bounds) as image:
        full = image.size
        scale = _reduce(image, size, rule)
        turn, plain = turn_of(image), eight_bit(image)
        if scale == 1:
            plain, turn, full = turned(plain, turn), None, turned_size(full, turn)
        square = _square(plain, full, scale, size, rule)
        # The scale holds from the corner that was stored first, so a reduced image is turned as a square.
        return as_array(turned(square, turn)), turned_size(full, turn)


def open_both(
    source: Path | bytes, size: int, rule: str
) -> tuple[NDArray[np.uint8], tuple[int, int], NDArray[np.uint8]]:
    """The same as `open_square` and `open_image`, decoding once where both need all pixels.

    Returns:
        uint8 [size, size, 3], width and height of the image, and the image uint8 [H, W, 3].

    Raises:
        UnreadableImageError: see `image_file.opened_image`.
        ValueError: there is no such rule.
    """
    _check_rule(rule)
    with opened_image(source) as image:
        if not _can_reduce(image, size, rule):
            turn = turn_of(image)
            upright = turned(eight_bit(image), turn)
            square = as_array(_square(upright, upright.size, 1, size, rule))
            return square, upright.size, as_array(upright)
    return *open_square(source, size, rule), open_image(source)


def measure_image(source: Path | bytes) -> tuple[int, int]:
    """Width and height, upright, of an image that can be decoded to its end.

    Raises:
        UnreadableImageError: see `image_file.opened_image`.
    """
    with opened_image(source) as image:
        full = image.size
        _reduce(image, 1, "stretch")
        turn = turn_of(image)
        eight_bit(image)
        return turned_size(full, turn)


def resize_to_square(image: NDArray[np.uint8], size: int, rule: str) -> NDArray[np.uint8]:
    """Resizes an image to the square a model reads, bilinear with anti-aliasing.

    Args:
        image: uint8 [H, W, 3].
        size: side of the result, pixels.
        rule: `crop` takes the largest centred square; `stretch` takes all of the image and ignores its aspect.

    Returns:
        uint8 [size, size, 3]; `image` itself where nothing is to do.

    Raises:
        ValueError: there is no such rule.
    """
    _check_rule(rule)
    height, width = image.shape[:2]
    if square_box(width, height, rule) == (0, 0, width, height) and (height, width) == (size, size):
        return image
    return as_array(_square(Image.fromarray(image), (width, height), 1, size, rule))


def _square(image: Image.Image, full: tuple[int, int], scale: int, size: int, rule: str) -> Image.Image:
    """The square of an image of which 1 / scale of its full width and height, rounded up, were decoded."""
    left, top, right, bottom = (edge / scale for edge in square_box(*full, rule))
    # Cropping inside the resize keeps a 1 x 5000 image from growing to 224 x 1,120,000 on the way.
    return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, right, bottom))


def _reduce(image: Image.Image, size: int, rule: str) -> int:
    """Has a large JPEG decoded at the smallest scale that leaves the square's part at `REDUCED_GAP` times `size`.

    Returns:
        what its width and height are divided by: 1, 2, 4 or 8.
    """
    width = image.width
    drafted = image.draft(None, _least_size(image, size, rule)) if _can_reduce(image, size, rule) else None
    return round(width / drafted[1][2]) if drafted else 1


def _can_reduce(image: Image.Image, size: int, rule: str) -> bool:
    if image.format != "JPEG" or image.width * image.height < REDUCED_FROM:
        return False
    width, height = _least_size(image, size, rule)
    return min(image.width // width, image.height // height) >= 2  # what Pillow's draft goes by


def _least_size(image: Image.Image, size: int, rule: str) -> tuple[int, int]:
    """Width and height that an image must keep for its square to be read from `REDUCED_GAP` times as many pixels."""
    left, top, right, bottom = square_box(image.width, image.height, rule)
    side = math.ceil(size * REDUCED_GAP)
    return math.ceil(side * image.width / (right - left)), math.ceil(side * image.height / (bottom - top))


def _check_rule(rule: str) -> None:
    if rule not in RESIZE_RULES:
        raise ValueError(f"resize rule {rule!r} is none of {', '.join(RESIZE_RULES)}")


def boxes_in_pixels(shares: NDArray[Any], sizes: Sequence[tuple[int, int]], rule: str) -> NDArray[Any]:
    """Boxes of what is seen in squares, in pixels of the images that these were made of.

    Args:
        shares: float [N,K,4], x0 y0 x1 y1 of each box, 0..1 of its square.
        sizes: width and height of each image, pixels.
        rule: by which the squares were made.

    Returns:
        of the same type and shape.
    """
    boxes = shares.copy()
    for own, (width, height) in zip(boxes, sizes, strict=True):
        left, top, right, bottom = square_box(width, height, rule)
        own *= np.array([right - left, bottom - top] * 2, boxes.dtype)
        own += np.array([left, top] * 2, boxes.dtype)
    return boxes


def square_box(width: int, height: int, rule: str) -> tuple[float, float, float, float]:
    """The part of an image that becomes the square, as left, top, right, bottom in pixels."""
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    return (left, top, left + side, top + side) if rule == "crop" else (0, 0, width, height)
