"""What a TIFF file says of itself, looked at before Pillow believes it (TIFF 6.0; BigTIFF)."""

import struct
from typing import Protocol

# More strips or tiles than any image has that is not meant to fill the memory with their list.
MOST_VALUES = 1 << 18
TILE_WIDTH, TILE_HEIGHT = 322, 323
WHOLE = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 16: "Q", 17: "q"}  # types of whole numbers
PLACES = (273, 279, 324, 325)  # offsets and lengths of strips and of tiles
SINGLE_BYTES = (1, 2, 6, 7)  # types whose values are not taken apart


class Readable(Protocol):
    """A file, as far as it is needed here."""

    def read(self, size: int = -1, /) -> bytes: ...

    def seek(self, offset: int, whence: int = 0, /) -> int: ...


def check_tiff(file: Readable, most_pixels: int) -> None:
    """Looks at the first directory of a TIFF file and leaves the file at its start.

    Args:
        file: begins with a TIFF signature.
        most_pixels: of a tile, which is decoded whole however small the image is.

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
        if values > MOST_VALUES and (kind not in SINGLE_BYTES or tag in PLACES):
            raise ValueError(f"its tag {tag} has {values:,} values")
        if tag in sides:
            if kind not in WHOLE:
                raise ValueError(f"its tag {tag} is no whole number")
            sides[tag] = max(sides[tag], struct.unpack_from(order + WHOLE[kind], value.ljust(8, b"\0"))[0])
    if sides[TILE_WIDTH] * sides[TILE_HEIGHT] > most_pixels:
        raise ValueError(f"its tiles are {sides[TILE_WIDTH]} x {sides[TILE_HEIGHT]} pixels")
    file.seek(0)
