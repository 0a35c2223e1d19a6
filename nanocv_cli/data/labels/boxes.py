"""The label of an image whose objects are boxed, and the array that detection learns from."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nanocv_cli.data.dataset import Sample
from nanocv_cli.data.labels.base import Label, Problem
from nanocv_cli.errors import DataError
from nanocv_cli.images.drawing import Frame, class_colour, draw_frames

Corners = tuple[float, float, float, float]

# Columns of a target row.
X0, Y0, X1, Y1, LABEL, IGNORED = range(6)
NO_OBJECT = -1.0
ROW_BYTES = 24
LARGEST_TARGETS = 4 << 30  # bytes; a hundred thousand images of 1,700 objects each
# Annotations may round to a whole pixel beyond the edge.
TOLERANCE = 1.0


@dataclass(frozen=True)
class Boxes(Label):
    """The objects of one image, as its annotation has them.

    Attributes:
        size: width and height of the image, pixels.
        corners: x0, y0, x1, y1 of each object in pixels of the original image; 0 is its left or upper edge.
        labels: class index of each object.
        crowd: which boxes stand for many objects (COCO's `iscrowd`).
        difficult: which objects are hard to tell (Pascal VOC's flag).
    """

    plural = "boxes"

    size: tuple[int, int]
    corners: tuple[Corners, ...]
    labels: tuple[int, ...]
    crowd: tuple[bool, ...]
    difficult: tuple[bool, ...]

    def check(self, split: str, path: Path, size: tuple[int, int]) -> Iterator[Problem]:
        """Boxes outside the image or over its edge, without area, drawn twice; an image of another size."""

        def finding(level: str, kind: str, what: str) -> Problem:
            return Problem(level, kind, f"{split}: {path}: {what}", (str(path),))

        width, height = self.size
        if self.size != size:
            yield finding("error", "size", f"annotated for {width}x{height} pixels, is {size[0]}x{size[1]}")
        for number, (x0, y0, x1, y1) in enumerate(self.corners, start=1):
            place = f"box {number} ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
            if x1 <= x0 or y1 <= y0:
                yield finding("error", "no_area", f"{place} has no area")
            elif x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
                yield finding("error", "outside", f"{place} lies outside the image")
            elif min(x0, y0) < -TOLERANCE or x1 > width + TOLERANCE or y1 > height + TOLERANCE:
                yield finding("warning", "border", f"{place} reaches over the image's edge and is cut there")
        twice = [entry for entry, count in Counter(zip(self.corners, self.labels, strict=True)).items() if count > 1]
        for (x0, y0, x1, y1), _ in twice:
            yield finding("warning", "twice", f"the box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) is there more than once")

    def tally(self) -> Mapping[tuple[str, str], int]:
        """Images without an object, and objects that are left alone."""
        return {
            ("empty", "images without an object"): int(not self.corners),
            ("crowd", "boxes of crowds, neither trained on nor counted as missed"): sum(self.crowd),
            ("difficult", "difficult objects, treated like crowds"): sum(self.difficult),
        }

    def classes(self) -> set[int]:
        """The classes of its objects."""
        return set(self.labels)

    def draw(self, image: NDArray[np.uint8], names: tuple[str, ...]) -> NDArray[np.uint8]:
        """A frame around each object, its class on it."""
        canvas = Image.fromarray(image)
        frames = [
            Frame(tuple(row[:4] * len(image)), names[int(row[LABEL])], class_colour(int(row[LABEL])))
            for row in self.rows()
        ]
        draw_frames(canvas, frames)
        return np.asarray(canvas)

    def remap(self, numbers: Sequence[int]) -> "Boxes":
        """See `Label`."""
        return Boxes(self.size, self.corners, tuple(numbers[n] for n in self.labels), self.crowd, self.difficult)

    def rows(self) -> NDArray[np.float32]:
        """One row per object that has an area inside the image.

        Returns:
            float32 [n, 6]: x0, y0, x1, y1 as shares 0..1 of the image, the label, and 1 for what is neither trained on
            nor counted as missed (crowds, difficult objects), else 0.
        """
        if not self.corners:
            return np.empty((0, 6), np.float32)
        width, height = self.size
        shares = np.asarray(self.corners, np.float64) / (width, height, width, height)
        shares = shares.clip(0.0, 1.0)
        ignored = np.logical_or(self.crowd, self.difficult)
        rows = np.concatenate([shares, np.stack([self.labels, ignored], 1)], 1).astype(np.float32)
        whole: NDArray[np.float32] = rows[(rows[:, X1] > rows[:, X0]) & (rows[:, Y1] > rows[:, Y0])]
        return whole


def box_targets(samples: Sequence[Sample[Boxes]]) -> NDArray[np.float32]:
    """The objects of many images as one array.

    Returns:
        float32 [n, M, 6] as in `Boxes.rows`, with M the largest number of objects of any image (at least 1); rows
        without an object are -1 throughout.

    Raises:
        DataError: one image has so many objects that an array with room for as many in each is too large.
    """
    rows = [sample.label.rows() for sample in samples]
    most = max([1, *map(len, rows)])
    if len(rows) * most * ROW_BYTES > LARGEST_TARGETS:
        crowded = samples[max(range(len(rows)), key=lambda place: len(rows[place]))]
        raise DataError(f"{crowded.path} has {most:,} objects, too many to learn from", "cut it into tiles")
    targets = np.full((len(rows), most, 6), NO_OBJECT, np.float32)
    for target, found in zip(targets, rows, strict=True):
        target[: len(found)] = found
    return targets
