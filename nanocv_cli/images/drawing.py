"""Drawing on images, and images side by side in one: sizes follow the image, text is readable on any ground, colours
stay with their class.
"""

import colorsys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from nanocv_cli.files import atomic_path
from nanocv_cli.untrusted import printable

Colour = tuple[int, int, int]
Corners = tuple[float, ...]
Row = tuple[str, float, Colour]

GOLDEN_RATIO = 0.618033988749895
HUES_PER_TONE = 8
TONES = ((0.72, 1.0), (0.4, 1.0), (0.85, 0.72))  # saturation and value

SMALLEST_TEXT = 9  # pixels; below this Pillow's font cannot be read
TEXT_PER_SIDE = 26  # text is one part in this of the image's shorter side
CARD_WIDTH = 15  # in heights of text
NARROWEST_CARD = 4
CARD_COLOUR = (16, 18, 22, 200)
TRACK_COLOUR = (78, 82, 90, 225)
TEXT_COLOUR = (255, 255, 255, 255)

OPACITY = 0.55  # of classes over an image
BACKGROUND = "background"  # the class that stays clear
ROWS = 256

GRID_GAP = 2
GRID_HEAD = 18  # height of a title
SMALLEST_SHOWN = 96  # pixels; smaller images are enlarged by whole factors
GRID_GROUND, GRID_INK = (245, 245, 245), (30, 30, 30)


def class_colour(label: int) -> Colour:
    """A class's colour, readable on a dark ground: hues a golden ratio apart, in three tones by turns of eight."""
    saturation, value = TONES[label // HUES_PER_TONE % len(TONES)]
    red, green, blue = colorsys.hsv_to_rgb((0.12 + label * GOLDEN_RATIO) % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def overlay_classes(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    names: Sequence[str],
    opacity: float = OPACITY,
    unlabelled: float = 0.0,
) -> NDArray[np.uint8]:
    """Classes in their colours over an image; a class `background` stays clear.

    Args:
        image: uint8 [H,W,3].
        mask: class numbers uint8 [H,W]; numbers that have no name are pixels of no class.
        names: of the classes, in label order; at most 256.
        opacity: of the colours, 0..1.
        unlabelled: how black pixels of no class become, 0..1.

    Returns:
        uint8 [H,W,3].
    """
    colours = np.zeros((256, 3), np.float32)
    shares = np.full(256, unlabelled, np.float32)
    for label, name in enumerate(names):
        colours[label] = class_colour(label)
        shares[label] = 0.0 if name == BACKGROUND else opacity
    painted = np.empty_like(image)
    for top in range(0, len(image), ROWS):  # in strips, for floats of a large image are many
        part, labels = image[top : top + ROWS], mask[top : top + ROWS]
        share = shares[labels][..., None]
        painted[top : top + ROWS] = (part * (1.0 - share) + colours[labels] * share).round()
    return painted


def text_height(width: int, height: int) -> int:
    """Font size, pixels, for an image of this size."""
    return max(SMALLEST_TEXT, round(min(width, height) / TEXT_PER_SIDE))


def plain_letters(text: str) -> str:
    """`text` as one short line without accents: Pillow's own font, the only one that is on every machine, has none."""
    shown = printable(text)
    return "".join(letter for letter in unicodedata.normalize("NFKD", shown) if not unicodedata.combining(letter))


def fit_text(text: str, face: Any, width: float) -> str:
    """`text` shortened, with an ellipsis, to at most `width` pixels in the font `face`; empty where nothing fits."""
    if face.getlength(text) <= width:
        return text
    fitting = (text[:end].rstrip() + "…" for end in range(len(text) - 1, 0, -1))
    return next((shorter for shorter in fitting if face.getlength(shorter) <= width), "")


@dataclass(frozen=True)
class Frame:
    """A box x0, y0, x1, y1 in pixels, what is written on it, and its colour."""

    box: Corners
    text: str
    colour: Colour


def draw_frames(image: Image.Image, frames: list[Frame]) -> None:
    """Draws frames and their texts, the first on top; a text that finds no room of its own is left out.

    Args:
        image: RGB; changed in place.
        frames: surest first.
    """
    pen = ImageDraw.Draw(image)
    size = max(SMALLEST_TEXT, round(min(image.size) / (TEXT_PER_SIDE + 8)))
    face, line = ImageFont.load_default(size), max(1, round(min(image.size) / 220))
    for frame in reversed(frames):
        x0, y0, x1, y1 = frame.box
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=(0, 0, 0), width=line + 1)
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=frame.colour, width=line)
    taken: list[tuple[float, float, float, float]] = []
    for frame in frames:
        text = plain_letters(frame.text)
        width, height = face.getlength(text) + size // 2, size + size // 3
        x = min(max(0.0, frame.box[0]), image.width - width)
        # Above the box, else inside it at its upper edge.
        y = frame.box[1] - height if frame.box[1] >= height else max(0.0, frame.box[1])
        place = (x, y, x + width, y + height)
        if x < 0 or any(place[0] < t[2] and t[0] < place[2] and place[1] < t[3] and t[1] < place[3] for t in taken):
            continue
        taken.append(place)
        pen.rectangle(place, fill=frame.colour)
        ink = (0, 0, 0) if sum(frame.colour) > 330 else (255, 255, 255)
        pen.text((x + size // 4, y + height / 2), text, fill=ink, font=face, anchor="lm")


def draw_legend(image: Image.Image, entries: list[tuple[str, Colour]]) -> None:
    """Draws a dark card with a colour and a name for each entry, as many as the lower left quarter holds.

    Args:
        image: RGB; changed in place.
        entries: from top to bottom.
    """
    size = text_height(*image.size)
    line, margin = size + size // 2, max(2, size // 2)
    entries = entries[: max(1, (image.height // 2 - margin) // line)]
    face = ImageFont.load_default(size)
    widest = max((face.getlength(plain_letters(name)) for name, _ in entries), default=0.0)
    width, height = round(widest) + 2 * size + 2 * margin, line * len(entries) + margin
    if not entries or width > image.width or height > image.height:
        return
    card = Image.new("RGBA", (width, height))
    pen = ImageDraw.Draw(card)
    pen.rectangle((0, 0, width, height), fill=CARD_COLOUR)
    for number, (name, colour) in enumerate(entries):
        top = margin // 2 + number * line
        pen.rectangle((margin, top + size // 4, margin + size, top + size // 4 + size), fill=colour)
        place = (2 * margin + size, top + line // 2)
        pen.text(place, plain_letters(name), fill=TEXT_COLOUR, font=face, anchor="lm")
    image.paste(card, (0, image.height - height), card)


def draw_score_card(image: Image.Image, rows: list[Row]) -> None:
    """Draws a dark card with label, percentage and bar for each row into the image's lower left corner.

    On a small image rows that would cover more than half of it are left out, the first never; an image too small to
    hold a readable word is left as it is.

    Args:
        image: RGB; changed in place.
        rows: label, share 0..1 and colour, from top to bottom; at least one.
    """
    size = text_height(*image.size)
    margin, bar = max(2, size // 2), max(2, size // 5)
    line = size + 2 * bar + margin // 2
    rows = rows[: max(1, (image.height // 2 - margin) // line)]
    gap = margin if image.width > CARD_WIDTH * size + 2 * margin else 0
    width = min(image.width - 2 * gap, CARD_WIDTH * size)
    height = line * len(rows) + margin
    if width < NARROWEST_CARD * size or height > image.height:
        return
    card = Image.new("RGBA", (width, height))
    pen = ImageDraw.Draw(card)
    pen.rounded_rectangle((0, 0, width - 1, height - 1), radius=margin if gap else 0, fill=CARD_COLOUR)
    face = ImageFont.load_default(size)
    for index, (label, share, colour) in enumerate(rows):
        _draw_row(pen, (margin, margin // 2 + index * line, width - margin), face, bar, (label, share, colour))
    image.paste(card, (gap, image.height - height - gap), card)


def _draw_row(pen: ImageDraw.ImageDraw, place: tuple[int, int, int], face: Any, bar: int, row: Row) -> None:
    """One row at `place` (left, top, right): the label to the left, the percentage to the right, the bar under both."""
    (left, top, right), (label, share, colour) = place, row
    percent = f"{100 * share:.0f} %"
    middle = top + face.size // 2
    percent_width = face.getlength(percent)
    pen.text((right, middle), percent, fill=TEXT_COLOUR, font=face, anchor="rm")
    room = right - left - percent_width - face.size // 2
    pen.text((left, middle), fit_text(plain_letters(label), face, room), fill=TEXT_COLOUR, font=face, anchor="lm")
    under = top + face.size + bar // 2
    pen.rectangle((left, under, right, under + bar - 1), fill=TRACK_COLOUR)
    pen.rectangle((left, under, left + round(share * (right - left)), under + bar - 1), fill=colour)


def write_grid(
    blocks: Sequence[NDArray[np.uint8]], path: Path, titles: Sequence[str] = (), columns: int | None = None
) -> Path:
    """Writes blocks of images one below the other, each under its title where there are titles.

    Args:
        blocks: uint8 [n,S,S,3] each, not all empty.
        path: PNG to write.
        titles: one for each block, or none.
        columns: images in a row; None: a block is a row.
    """
    side = max(block.shape[1] for block in blocks if len(block))
    shown = side * max(1, -(-SMALLEST_SHOWN // side))
    columns = columns or max(len(block) for block in blocks)
    head = GRID_HEAD if titles else 0
    lines = sum(-(-len(block) // columns) for block in blocks)
    size = (columns * (shown + GRID_GAP) + GRID_GAP, lines * (shown + GRID_GAP) + len(blocks) * head + GRID_GAP)
    grid = Image.new("RGB", size, GRID_GROUND)
    pen, face = ImageDraw.Draw(grid), ImageFont.load_default(13)
    top = GRID_GAP
    for number, block in enumerate(blocks):
        if titles:
            pen.text(
                (GRID_GAP + 2, top + 1),
                fit_text(plain_letters(titles[number]), face, grid.width - 8),
                GRID_INK,
                font=face,
            )
        top += head
        for start in range(0, len(block), columns):
            for column, image in enumerate(block[start : start + columns]):
                enlarged = Image.fromarray(image).resize((shown, shown), Image.Resampling.NEAREST)
                grid.paste(enlarged, (GRID_GAP + column * (shown + GRID_GAP), top))
            top += shown + GRID_GAP
    return write_image(np.asarray(grid), path)


def write_image(image: NDArray[np.uint8], path: Path) -> Path:
    """Writes uint8 [H,W,3] as a PNG file, its folders as well."""
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, "PNG")
    return path
