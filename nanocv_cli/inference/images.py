"""Any picture file as uint8 RGB, and any picture as the square a model reads.

Training caches are filled by these same functions, so what a network learnt from is what inference feeds it.
"""

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nanocv_cli.errors import DataError

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .bmp .gif .webp .tif .tiff .ppm .pgm .pbm .tga .ico .jp2 .avif".split()  # noqa: SIM905
)
# Over this a file is more likely an attack than a photograph; decoded it would take 600 MB.
MAX_PIXELS = 200_000_000
SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")


class UnreadableImageError(DataError):
    """A picture that cannot be decoded: not a picture, cut short, or too large."""


def open_image(source: Path | bytes) -> NDArray[np.uint8]:
    """Decodes a picture, upright (EXIF), alpha over white, the first frame of an animation.

    16-bit grey is scaled from 0..65535; 32-bit integers and floats from the picture's own smallest to largest value,
    floats within 0..1 from that range.

    Args:
        source: a file, or its bytes.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        UnreadableImageError: see there.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own bomb warning; the bound is checked below
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise UnreadableImageError(
                        f"{width}x{height} pixels are more than the {MAX_PIXELS:,} that nanocv opens", "make it smaller"
                    )
                return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except UnreadableImageError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        reason = "not a picture in a format that Pillow reads" if "cannot identify" in str(error) else str(error)
        raise UnreadableImageError(reason or type(error).__name__, "replace or remove the file") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in SIXTEEN_BIT:
        return _grey((np.asarray(image, np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image, np.float64))
        low, high = values.min(), values.max()
        if image.mode == "I" and low >= 0 and high <= 65_535:
            low, high = 0.0, 255.0 if high <= 255 else 65_535.0  # 8- or 16-bit data in a wider mode
        elif low >= 0.0 and high <= 1.0:
            low, high = 0.0, 1.0
        return _grey(((values - low) * (255.0 / max(high - low, 1e-12))).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        opaque = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert("RGB")
    return image.convert("RGB")


def _grey(values: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(values).convert("RGB")


def resize_to_square(image: NDArray[np.uint8], size: int, rule: str) -> NDArray[np.uint8]:
    """Resizes a picture to the square a model reads, bilinear with anti-aliasing.

    Args:
        image: uint8 [H, W, 3].
        size: side of the result, pixels.
        rule: `crop` takes the largest centred square; `stretch` takes all of the picture and ignores its aspect.

    Returns:
        uint8 [size, size, 3].
    """
    height, width = image.shape[:2]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side) if rule == "crop" else (0, 0, width, height)
    if box == (0, 0, size, size):
        return image
    # Cropping inside the resize keeps a 1 x 5000 picture from growing to 224 x 1,120,000 on the way.
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box))
