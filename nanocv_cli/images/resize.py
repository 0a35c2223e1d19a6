"""Any image file as uint8 RGB, and any image as the square a model reads.

Training caches are filled by these same functions, so what a network learnt from is what inference feeds it.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nanocv_cli.images import RESIZE_RULES
from nanocv_cli.images.image_file import MAX_PIXELS, UnreadableImageError, opened_image
from nanocv_cli.images.pixels import as_array, eight_bit

__all__ = [
    "JPEG_SUFFIXES",
    "MAX_PIXELS",
    "SUFFIXES",
    "UnreadableImageError",
    "measure_image",
    "open_image",
    "open_square",
    "resize_to_square",
    "square_box",
]

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
        return as_array(eight_bit(image))


def open_square(source: Path | bytes, size: int, rule: str) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The same as `resize_to_square(open_image(source), size, rule)`, in less than half of the memory.

    Returns:
        uint8 [size, size, 3], and width and height of the image.

    Raises:
        UnreadableImageError: see `image_file.opened_image`.
        ValueError: there is no such rule.
    """
    _check_rule(rule)
    with opened_image(source) as image:
        upright = eight_bit(image)
        return _resized(upright, size, rule), upright.size


def measure_image(source: Path | bytes) -> tuple[int, int]:
    """Width and height of an image that can be decoded to its end.

    Raises:
        UnreadableImageError: see `image_file.opened_image`.
    """
    with opened_image(source) as image:
        return eight_bit(image).size


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
    return _resized(Image.fromarray(image), size, rule)


def _resized(image: Image.Image, size: int, rule: str) -> NDArray[np.uint8]:
    box = square_box(image.width, image.height, rule)
    # Cropping inside the resize keeps a 1 x 5000 image from growing to 224 x 1,120,000 on the way.
    return as_array(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def _check_rule(rule: str) -> None:
    if rule not in RESIZE_RULES:
        raise ValueError(f"resize rule {rule!r} is none of {', '.join(RESIZE_RULES)}")


def square_box(width: int, height: int, rule: str) -> tuple[float, float, float, float]:
    """The part of an image that becomes the square, as left, top, right, bottom in pixels."""
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    return (left, top, left + side, top + side) if rule == "crop" else (0, 0, width, height)
