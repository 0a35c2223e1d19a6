"""The label of an image whose pixels are labelled, and the array that segmentation learns from."""

import hashlib
import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nanocv_cli.data.dataset import Sample
from nanocv_cli.data.labels.base import Label, Problem
from nanocv_cli.data.row_cache import Progress, Say, cached_array
from nanocv_cli.errors import DataError
from nanocv_cli.images.drawing import overlay_classes
from nanocv_cli.images.image_file import opened_image
from nanocv_cli.images.pixels import strips
from nanocv_cli.images.resize import UnreadableImageError, square_box

# The value of a pixel that is neither trained on nor evaluated, whatever the set's own files use for it.
IGNORED = 255
# Raised whenever a mask would be read or resized differently: older caches are then made anew.
FORMAT = 2
# Of an index image; what is more is no class in any case.
LARGEST_VALUE = 65_535

Part = TypeVar("Part")


class Mask(Label):
    """A class for every pixel, and where it comes from."""

    plural = "masks"
    is_opened = True

    @abstractmethod
    def read(self) -> NDArray[np.uint8]:
        """Class indices and `IGNORED`, uint8 [H,W], of the size of the image.

        Raises:
            DataError: it cannot be read, or holds what is no class.
        """

    @abstractmethod
    def key(self) -> str:
        """Changes whenever what `read` returns may change."""

    def check(self, split: str, path: Path, size: tuple[int, int]) -> Iterator[Problem]:
        """Values that are no class, another size than the image's, nothing labelled."""
        try:
            mask = self.read()
        except DataError as error:
            yield Problem("error", "mask", f"{split}: {error.message}", (str(path),))
            return
        if (mask.shape[1], mask.shape[0]) != size:
            sizes = f"{mask.shape[1]}x{mask.shape[0]}, the image {size[0]}x{size[1]}"
            yield Problem("error", "size", f"{split}: {path}: its mask is {sizes}", (str(path),))
        if np.all(mask == IGNORED):
            yield Problem("warning", "unlabelled", f"{split}: {path}: no pixel is labelled", (str(path),))

    def content(self) -> str:
        """Of the pixels, so that the same mask in two files is the same."""
        try:
            return hashlib.sha256(self.read().tobytes()).hexdigest()
        except DataError:
            return self.key()

    def classes(self) -> set[int]:
        """The classes of its pixels, and `IGNORED` where there are such."""
        try:
            return {int(value) for value in np.unique(self.read())}
        except DataError:
            return set()

    def draw(self, image: NDArray[np.uint8], names: tuple[str, ...]) -> NDArray[np.uint8]:
        """The classes in their colours; what is ignored, and a background, stay clear."""
        return overlay_classes(image, square_mask(self.read(), len(image), self.resize), names)

    def remap(self, numbers: Sequence[int]) -> "Mask":
        """See `Label`; itself where no number changes, so that caches made from it are found again."""
        return self if list(numbers) == list(range(len(numbers))) else Renumbered(self, tuple(numbers))


class UnreadableMaskError(DataError):
    """A file that is no image."""


@dataclass(frozen=True)
class MaskFile(Mask):
    """A mask as an image file.

    Attributes:
        path: PNG (any lossless format Pillow reads): an index or palette image, or one in colours.
        table: class index of each value of an index image; `IGNORED` for those that are ignored; -1 for no class.
        colours: of an image in colours, red * 65536 + green * 256 + blue, and the class index of each; None for an
            index image.
    """

    path: Path
    table: tuple[int, ...]
    colours: tuple[tuple[int, int], ...] | None = None

    def read(self) -> NDArray[np.uint8]:
        """See `Mask`."""
        return np.concatenate(map_values(self.path, self.colours is not None, self._labels))

    def _labels(self, values: NDArray[np.uint32]) -> NDArray[np.uint8]:
        if self.colours is None:
            table = np.full(LARGEST_VALUE + 1, -1, np.int16)
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
        return f"{_file_state(self.path)} {self.table} {self.colours}"


@dataclass(frozen=True)
class Renumbered(Mask):
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


def map_values(path: Path, in_colours: bool, use: Callable[[NDArray[np.uint32]], Part]) -> list[Part]:
    """What a function makes of a mask file's values, from top to bottom, in parts [h,W].

    Args:
        path: of the mask.
        in_colours: whether values are red * 65536 + green * 256 + blue; else they are indices, and those above
            `LARGEST_VALUE` are given as that.
        use: the function.

    Raises:
        UnreadableMaskError: it cannot be read.
        DataError: it is in colours where indices are expected; or what `use` raises.
    """
    try:
        with opened_image(path) as image:
            image.load()
            if not in_colours and len(image.getbands()) > 1:
                raise DataError(f"{path} is in colours, not class numbers", "name them: data.mask.colours")
            return [use(_colours(strip) if in_colours else _indices(strip)) for _, strip in strips(image)]
    except UnreadableImageError as error:
        raise UnreadableMaskError(f"{path} cannot be read as a mask: {error.message}", "nanocv data check") from error


def _colours(strip: Image.Image) -> NDArray[np.uint32]:
    rgb = np.asarray(strip.convert("RGB"), np.uint32)
    return (rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]).astype(np.uint32, copy=False)


def _indices(strip: Image.Image) -> NDArray[np.uint32]:
    values = np.asarray(strip.convert("L") if strip.mode == "1" else strip)
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=LARGEST_VALUE)
    return values.clip(0, LARGEST_VALUE).astype(np.uint32)


def check_class_count(classes: Sequence[str], source: Path) -> None:
    """A mask has one byte for each pixel, of which one value is `IGNORED`.

    Raises:
        DataError: there are more classes than that.
    """
    if len(classes) > IGNORED:
        raise DataError(f"{source} names {len(classes):,} classes", f"a mask tells {IGNORED} apart: join some")


def cached_masks(
    folder: Path,
    samples: Sequence[Sample[Mask]],
    size: int,
    resize: str,
    progress: Progress | None = None,
    say: Say | None = None,
) -> NDArray[np.uint8]:
    """The masks of images as one memory map, made at first use, or where it was damaged.

    Args:
        folder: where caches are kept.
        samples: images of one split.
        size: side of the square, pixels.
        resize: how the images become that square (`crop` or `stretch`).
        progress: called with (done, total).
        say: is told of a damaged cache.

    Returns:
        uint8 [n,size,size], read-only.

    Raises:
        DataError: a mask cannot be read.
        StorageError: the cache cannot be read or written.
    """
    digest = hashlib.sha256(f"masks {FORMAT} {size} {resize}".encode())
    for sample in samples:
        digest.update(f"{sample.label.key()}\n".encode(errors="surrogateescape"))

    def read(sample: Sample[Mask]) -> NDArray[np.uint8]:
        return square_mask(sample.label.read(), size, resize)

    entry = folder / digest.hexdigest()[:24]
    return cached_array(entry, samples, (size, size), read, "the mask cache", progress, say)[0]


def square_mask(mask: NDArray[np.uint8], size: int, resize: str) -> NDArray[np.uint8]:
    """The square that `images.resize.resize_to_square` takes of the image, by nearest pixels."""
    box = square_box(mask.shape[1], mask.shape[0], resize)
    return np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST, box=box))


def _file_state(path: Path) -> str:
    """Changes whenever a file's content may have: where it lies, links resolved, its length and time of change."""
    place = os.path.realpath(path)
    try:
        state = path.stat()
    except OSError as error:
        return f"{place}\0{error.errno}"
    return f"{place}\0{state.st_size}\0{state.st_mtime_ns}"
