"""The label of a picture whose pixels are labelled, and the array that segmentation learns from."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nanocv_cli.data.dataset import Sample
from nanocv_cli.errors import DataError, StorageError
from nanocv_cli.files import folder_beside, write_json
from nanocv_cli.inference.images import square_box

# The value of a pixel that is neither learnt nor judged, whatever the set's own files use for it.
IGNORED = 255
# Raised whenever a mask would be read or resized differently: older caches are then made anew.
FORMAT = 1
Progress = Callable[[int, int], None]


class Mask(Protocol):
    """Where a picture's labels come from."""

    def read(self) -> NDArray[np.uint8]:
        """Class indices and `IGNORED`, uint8 [H,W], of the size of the picture.

        Raises:
            DataError: it cannot be read, or holds what is no class.
        """

    def key(self) -> str:
        """Changes whenever what `read` returns may change."""


class UnreadableMaskError(DataError):
    """A file that is no picture."""


@dataclass(frozen=True)
class MaskFile:
    """A mask as a picture file.

    Attributes:
        path: PNG (any lossless format Pillow reads): an index or palette picture, or one in colours.
        table: class index of each value of an index picture; `IGNORED` for those that are ignored; -1 for no class.
        colours: of a picture in colours, red * 65536 + green * 256 + blue, and the class index of each; None for an
            index picture.
    """

    path: Path
    table: tuple[int, ...]
    colours: tuple[tuple[int, int], ...] | None = None

    def read(self) -> NDArray[np.uint8]:
        """See `Mask`."""
        values = read_values(self.path, in_colours=self.colours is not None)
        if self.colours is None:
            table = np.full(256, -1, np.int16)
            table[: len(self.table)] = self.table
            found = table[values]
        else:
            found = np.full(values.shape, -1, np.int16)
            for colour, index in self.colours:
                found[values == colour] = index
        if (found < 0).any():
            value = int(values[found < 0][0])
            shown = f"colour {value >> 16, value >> 8 & 255, value & 255}" if self.colours else f"value {value}"
            raise DataError(f"{self.path}: {shown} is no class", "name it in data.mask, or ignore it")
        return found.astype(np.uint8)

    def key(self) -> str:
        """See `Mask`."""
        state = self.path.stat()
        return f"{self.path.resolve()} {state.st_size} {state.st_mtime_ns} {self.table} {self.colours}"


@dataclass(frozen=True)
class Renumbered:
    """A mask whose class `n` is `numbers[n]`."""

    mask: Mask
    numbers: tuple[int, ...]

    def read(self) -> NDArray[np.uint8]:
        """See `Mask`."""
        table = np.full(256, IGNORED, np.uint8)
        table[: len(self.numbers)] = self.numbers
        return table[self.mask.read()]

    def key(self) -> str:
        """See `Mask`."""
        return f"{self.mask.key()} {self.numbers}"


def read_values(path: Path, in_colours: bool) -> NDArray[np.int64]:
    """A mask file's values [H,W]: indices 0..255, or colours as red * 65536 + green * 256 + blue.

    Raises:
        UnreadableMaskError: it cannot be read.
        DataError: it is in colours where indices are expected.
    """
    try:
        with Image.open(path) as opened:
            opened.load()
            if in_colours:
                rgb = np.asarray(opened.convert("RGB"), np.int64)
                return rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
            if opened.mode in ("RGB", "RGBA", "LA"):
                raise DataError(f"{path} is in colours, not class numbers", "name them: data.mask.colours")
            return np.asarray(opened.convert("L") if opened.mode == "1" else opened, np.int64).clip(0, 65_535)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableMaskError(
            f"{path} cannot be read as a mask: {str(error)[:100]}", "nanocv data check"
        ) from error


def cached_masks(
    folder: Path, samples: Sequence[Sample[Mask]], size: int, resize: str, progress: Progress | None = None
) -> NDArray[np.uint8]:
    """The masks of pictures as one memory map, made at first use.

    Args:
        folder: where caches are kept.
        samples: pictures of one split.
        size: side of the square, pixels.
        resize: how the pictures become that square (`crop` or `stretch`).
        progress: called with (done, total).

    Returns:
        uint8 [n,size,size], read-only.

    Raises:
        DataError: a mask cannot be read.
        StorageError: the cache cannot be written.
    """
    digest = hashlib.sha256(f"masks {FORMAT} {size} {resize}".encode())
    for sample in samples:
        digest.update(f"{sample.label.key()}\n".encode())
    entry = folder / digest.hexdigest()[:24]
    if not (entry / "index.json").is_file():
        try:
            with folder_beside(entry) as temporary:
                _write(temporary / "masks.u8", samples, size, resize, progress)
                write_json(temporary / "index.json", {"count": len(samples)})
                if not entry.exists():  # another run may have made the same cache meanwhile
                    temporary.replace(entry)
        except StorageError as error:
            raise StorageError(f"the mask cache: {error.message}", "set NANOCV_CACHE to a folder with room") from error
    count = json.loads((entry / "index.json").read_text())["count"]
    return np.memmap(entry / "masks.u8", np.uint8, "r", shape=(count, size, size))


def _write(target: Path, samples: Sequence[Sample[Mask]], size: int, resize: str, progress: Progress | None) -> None:
    def decode(sample: Sample[Mask]) -> bytes:
        return square_mask(sample.label.read(), size, resize).tobytes()

    workers = os.cpu_count() or 1
    chunk = 64 * workers
    with target.open("wb") as file, ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(samples), chunk):
            for offset, decoded in enumerate(pool.map(decode, samples[start : start + chunk])):
                file.write(decoded)
                if progress:
                    progress(start + offset + 1, len(samples))
        file.flush()
        os.fsync(file.fileno())


def square_mask(mask: NDArray[np.uint8], size: int, resize: str) -> NDArray[np.uint8]:
    """The square that `inference.images.resize_to_square` takes of the picture, by nearest pixels."""
    box = square_box(mask.shape[1], mask.shape[0], resize)
    return np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST, box=box))
