"""Decoded images of any mode as eight bits per channel, in strips: a large image is never there several times."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

STRIP_PIXELS = 1 << 22
SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ON_THEIR_SIDE = tuple(TURNS[number] for number in (5, 6, 7, 8))

Convert = Callable[[Image.Image], Image.Image]


def eight_bit(image: Image.Image) -> Image.Image:
    """An image as grey (mode `L`) or colours (`RGB`), alpha over white, as it lies; the one given is used up.

    16-bit grey is read from 0..65535. Whole numbers of 32 bits and floats are read from the narrowest of 0..1, 0..255
    and 0..65535 that holds them all, else from their own smallest to their largest; NaN and infinities become 0.
    """
    image.load()
    mode, convert = _conversion(image)
    if convert is not None and image.width * image.height <= STRIP_PIXELS:
        image = convert(image)
    elif convert is not None:
        converted = Image.new(mode, image.size)
        for top, strip in strips(image):
            converted.paste(convert(strip), (0, top))
        image.close()
        image = converted
    return image


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """What makes an opened image upright, by its EXIF orientation; None where it is."""
    image.load()
    return TURNS.get(image.getexif().get(ORIENTATION, 1))


def turned(image: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    """An image turned or mirrored."""
    return image if turn is None else image.transpose(turn)


def turned_size(size: tuple[int, int], turn: Image.Transpose | None) -> tuple[int, int]:
    """Width and height of an image after `turned`."""
    return (size[1], size[0]) if turn in ON_THEIR_SIDE else size


def strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """A decoded image from top to bottom in parts of full width, each with its first row."""
    if image.width * image.height <= STRIP_PIXELS:
        yield 0, image
        return
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def as_array(image: Image.Image) -> NDArray[np.uint8]:
    """An image of mode `L` or `RGB` as uint8 [H,W,3]."""
    if image.width * image.height <= STRIP_PIXELS:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top, strip in strips(image):
        pixels[top : top + strip.height] = np.asarray(strip.convert("RGB"))
    return pixels


def _conversion(image: Image.Image) -> tuple[str, Convert | None]:
    """The mode that an image is converted to and how its strips are; None where nothing is to do."""
    if image.mode in SIXTEEN_BIT:
        return "L", lambda strip: Image.fromarray((np.asarray(strip, np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        return "L", _ranged(image)
    if image.mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
        return "RGB", lambda strip: ImageCms.applyTransform(strip, transform) or strip
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        return "RGB", _over_white
    if image.mode == "1":
        return "L", lambda strip: strip.convert("L")
    return "RGB", None if image.mode in ("L", "RGB") else lambda strip: strip.convert("RGB")


def _over_white(strip: Image.Image) -> Image.Image:
    opaque = strip.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert("RGB")


def _ranged(image: Image.Image) -> Convert:
    """Numbers of unknown range as 0..255; see `eight_bit` for how the range is found."""

    def values(strip: Image.Image) -> NDArray[np.float64]:
        numbers = np.asarray(strip, np.float64)
        return np.where(np.isfinite(numbers), numbers, 0.0)

    bounds = [(float(part.min()), float(part.max())) for part in (values(strip) for _, strip in strips(image))]
    low, high = min(least for least, _ in bounds), max(most for _, most in bounds)
    limit = next((limit for limit in (1.0, 255.0, 65_535.0) if low >= 0.0 and high <= limit), None)
    black, white = (low, high) if limit is None else (0.0, limit)

    def convert(strip: Image.Image) -> Image.Image:
        numbers = values(strip)
        shares = (numbers - black) / (white - black) if white > black else np.zeros_like(numbers)
        return Image.fromarray((shares * 255.0).round().astype(np.uint8))

    return convert
