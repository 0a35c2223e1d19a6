"""The label of an image whose objects are boxed, and the array that detection learns from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.data.dataset import Sample
from nanocv_cli.errors import DataError

Corners = tuple[float, float, float, float]

# Columns of a target row.
X0, Y0, X1, Y1, LABEL, IGNORED = range(6)
NO_OBJECT = -1.0
ROW_BYTES = 24
LARGEST_TARGETS = 4 << 30  # bytes; a hundred thousand images of 1,700 objects each


@dataclass(frozen=True)
class Boxes:
    """The objects of one image, as its annotation has them.

    Attributes:
        size: width and height of the image, pixels.
        corners: x0, y0, x1, y1 of each object in pixels of the original image; 0 is its left or upper edge.
        labels: class index of each object.
        crowd: which boxes stand for many objects (COCO's `iscrowd`).
        difficult: which objects are hard to tell (Pascal VOC's flag).
    """

    size: tuple[int, int]
    corners: tuple[Corners, ...]
    labels: tuple[int, ...]
    crowd: tuple[bool, ...]
    difficult: tuple[bool, ...]

    def remap_labels(self, numbers: Sequence[int]) -> "Boxes":
        """The same objects with class `numbers[label]` in place of `label`."""
        return Boxes(self.size, self.corners, tuple(numbers[n] for n in self.labels), self.crowd, self.difficult)

    def rows(self) -> NDArray[np.float32]:
        """One row per object that has an area inside the image.

        Returns:
            float32 [n, 6]: x0, y0, x1, y1 as shares 0..1 of the image, the label, and 1 for what is neither learnt
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
