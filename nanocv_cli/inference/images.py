"""Any picture file as uint8 RGB, and any picture as the square a model reads.

Training caches are filled by these same functions, so what a network learnt from is what inference feeds it.
"""

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from nanocv_cli.errors import DataError
from nanocv_cli.inference.card import RESIZE_RULES

JPEG_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})
# Files of these names count as pictures when a folder is walked; a file that is named by itself is opened whatever its
# name. Fixed, so that a folder holds the same pictures on every machine.
SUFFIXES = JPEG_SUFFIXES | {
    *(".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".tga", ".ico", ".jp2", ".avif")
}
# Above this a file is more likely an attack than a photograph; decoded it would take 600 MB.
MAX_PIXELS = 200_000_000
SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa")

# Pillow warns above its limit and refuses above twice its limit, in every decoder.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
# A doubtful tag in a file that can be read is no news to the user; what cannot be read raises.
warnings.filterwarnings("ignore", module=r"PIL\.")


class UnreadableImageError(DataError):
    """A picture that cannot be decoded: not a picture, cut short, or too large. The message does not name the file."""


def open_image(source: Path | bytes) -> NDArray[np.uint8]:
    """Decodes a picture: upright (EXIF), alpha over white, the first frame of an animation.

    16-bit grey is read from 0..65535. Whole numbers of 32 bits and floats are read from the narrowest of 0..1, 0..255
    and 0..65535 that holds them all, else from their own smallest to their largest; NaN and infinities become 0.

    Args:
        source: a file, or its bytes.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        UnreadableImageError: not a picture in a format that Pillow reads, cut short, or over `MAX_PIXELS`.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.format == "EPS":
                raise UnreadableImageError("PostScript is a program, which nanocv does not run", "convert it to PNG")
            ImageOps.exif_transpose(image, in_place=True)
            return np.asarray(_to_rgb(image))
    except UnreadableImageError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise UnreadableImageError(_reason(source, error), "replace or remove the file") from error


def _reason(source: Path | bytes, error: Exception) -> str:
    """Why a picture could not be opened, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, Image.DecompressionBombError):
        return f"more than the {MAX_PIXELS // 1_000_000} million pixels that nanocv opens"
    if isinstance(error, UnidentifiedImageError):
        empty = not source if isinstance(source, bytes) else source.stat().st_size == 0
        return "the file is empty" if empty else "not a picture in a format that Pillow reads"
    return (str(error).splitlines() or [type(error).__name__])[0]


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in SIXTEEN_BIT:
        return _grey((np.asarray(image, np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        return _grey(_eight_bit(np.asarray(image, np.float64)))
    if image.mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB") or image
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        opaque = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert("RGB")
    return image.convert("RGB")


def _eight_bit(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Grey values of unknown range as 0..255; see `open_image` for how the range is found."""
    values = np.where(np.isfinite(values), values, 0.0)
    low, high = float(values.min()), float(values.max())
    limit = next((limit for limit in (1.0, 255.0, 65_535.0) if low >= 0.0 and high <= limit), None)
    black, white = (low, high) if limit is None else (0.0, limit)
    shares = (values - black) / (white - black) if white > black else np.zeros_like(values)
    return (shares * 255.0).round().astype(np.uint8)


def _grey(values: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(values).convert("RGB")


def resize_to_square(image: NDArray[np.uint8], size: int, rule: str) -> NDArray[np.uint8]:
    """Resizes a picture to the square a model reads, bilinear with anti-aliasing.

    Args:
        image: uint8 [H, W, 3].
        size: side of the result, pixels.
        rule: `crop` takes the largest centred square; `stretch` takes all of the picture and ignores its aspect.

    Returns:
        uint8 [size, size, 3]; `image` itself where nothing is to do.

    Raises:
        ValueError: there is no such rule.
    """
    if rule not in RESIZE_RULES:
        raise ValueError(f"resize rule {rule!r} is none of {', '.join(RESIZE_RULES)}")
    height, width = image.shape[:2]
    box = square_box(width, height, rule)
    if box == (0, 0, width, height) and (height, width) == (size, size):
        return image
    # Cropping inside the resize keeps a 1 x 5000 picture from growing to 224 x 1,120,000 on the way.
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box))


def square_box(width: int, height: int, rule: str) -> tuple[float, float, float, float]:
    """The part of a picture that becomes the square, as left, top, right, bottom in pixels."""
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    return (left, top, left + side, top + side) if rule == "crop" else (0, 0, width, height)
