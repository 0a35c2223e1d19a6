"""Drawing on pictures: sizes follow the picture, colours are told apart and stay with their class."""

import colorsys
from typing import Any

from PIL import ImageDraw, ImageFont

Colour = tuple[int, int, int]
GOLDEN_RATIO = 0.618033988749895


def class_colour(label: int) -> Colour:
    """A class's colour: hues a golden ratio apart, so that neighbouring labels never look alike."""
    red, green, blue = colorsys.hsv_to_rgb((0.08 + label * GOLDEN_RATIO) % 1.0, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def text_size(width: int, height: int) -> int:
    """Font size in pixels that is readable on a picture of this size."""
    return max(8, round(min(width, height) / 18))


def font(size: int) -> Any:
    """Pillow's own scalable font."""
    return ImageFont.load_default(size)


def score_rows(pen: ImageDraw.ImageDraw, width: int, height: int, rows: list[tuple[str, float, Colour]]) -> None:
    """Draws rows of label, bar and percentage on a dark panel along the picture's lower edge.

    Args:
        pen: of an RGBA picture.
        width: of the picture, pixels.
        height: of the picture, pixels.
        rows: label, share 0..1 and colour, from top to bottom; those that do not fit are left out.
    """
    size = text_size(width, height)
    line = round(size * 1.5)
    rows = rows[: max(1, height * 2 // 3 // line)]
    face = font(size)
    top = height - line * len(rows) - size // 2
    pen.rectangle((0, top, width, height), fill=(0, 0, 0, 150))
    margin = size // 2
    for row, (label, share, colour) in enumerate(rows):
        y = top + margin // 2 + row * line
        pen.rectangle(
            (margin, y + line - size // 5 - 2, margin + share * (width - 2 * margin), y + line - 2), fill=colour
        )
        pen.text((margin, y), label, fill="white", font=face)
        percent = f"{share:.0%}"
        pen.text((width - margin - pen.textlength(percent, font=face), y), percent, fill="white", font=face)
