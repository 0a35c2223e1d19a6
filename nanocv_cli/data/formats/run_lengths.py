"""COCO's segmentations as runs of pixels, checked before anything is drawn from them.

A mask is a list of lengths that lie alternately outside and inside of the object, column by column, and come to height
times width together. As text they are the code of cocoapi's `rleFrString`: groups of five bits, of differences from the
length before the last.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Steps along a polygon's edges that its drawing walks, in pixels; a contour of a whole large street scene has 100,000.
MOST_STEPS = 1 << 22
MOST_DIGITS = 7  # of five bits, in one length

Runs = NDArray[np.int64]


def runs_of(code: Any, width: int, height: int) -> list[Runs]:
    """The runs of one object: of each of its polygons, or of its one run-length code.

    Args:
        code: `segmentation`, as JSON has it: polygons `[[x, y, ...], ...]` or `{"size": [h, w], "counts": ...}`.
        width: of the image, pixels.
        height: of the image, pixels.

    Returns:
        int64 [n] each: lengths that sum up to `width * height`.

    Raises:
        ValueError: it is no such code, or one of another size.
    """
    if isinstance(code, list):
        polygons = [points for entry in code if len(points := _points(entry, width, height)) >= 6]
        return _drawn(polygons, width, height)
    if not isinstance(code, dict):
        raise ValueError("neither polygons nor a run-length code")
    if code.get("size") != [height, width]:
        raise ValueError(f"its size is not the image's, which is [{height}, {width}]")
    counts = code.get("counts")
    return [_checked(_decoded(counts) if isinstance(counts, str) else _listed(counts), width, height)]


def _points(entry: Any, width: int, height: int) -> list[float]:
    if not isinstance(entry, list) or len(entry) % 2 or not all(type(number) in (int, float) for number in entry):
        raise ValueError("a polygon is no list of pairs of numbers")
    if not all(-width <= x <= 2 * width for x in entry[::2]) or not all(
        -height <= y <= 2 * height for y in entry[1::2]
    ):
        raise ValueError("a polygon reaches far out of its image")
    points = np.array(entry, np.float64).reshape(-1, 2)
    steps = np.abs(points - np.roll(points, 1, 0)).max(1, initial=0.0).sum()
    if steps > min(MOST_STEPS, width * height + 4 * (width + height)):
        raise ValueError("a polygon's edges are longer than its image has pixels")
    return entry


def _drawn(polygons: list[list[float]], width: int, height: int) -> list[Runs]:
    if not polygons:
        return []
    from faster_coco_eval import mask as coco_mask

    codes = coco_mask.frPyObjects(polygons, height, width)
    texts = (code["counts"] for code in codes)
    return [_checked(_decoded(text if isinstance(text, str) else text.decode()), width, height) for text in texts]


def _listed(counts: Any) -> Runs:
    if not isinstance(counts, list) or not all(type(count) is int and 0 <= count < 1 << 40 for count in counts):
        raise ValueError("its counts are neither text nor whole numbers")
    return np.array(counts, np.int64)


def _decoded(text: str) -> Runs:
    digits = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - 48
    if ((digits < 0) | (digits > 63)).any():
        raise ValueError("its counts hold characters of no run-length code")
    ends = np.flatnonzero(digits & 32 == 0)
    if not len(digits) or not len(ends) or ends[-1] != len(digits) - 1:
        raise ValueError("its counts are cut short")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > MOST_DIGITS:
        raise ValueError("its counts are too large")
    places = np.arange(len(digits)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((digits & 31) << 5 * places, starts)
    runs -= np.where(digits[ends] & 16, 1 << 5 * lengths, 0)
    for chain in (runs[1::2], runs[2::2]):
        np.cumsum(chain, out=chain)
    return runs


def _checked(runs: Runs, width: int, height: int) -> Runs:
    pixels = width * height
    if ((runs < 0) | (runs > pixels)).any() or int(runs.sum()) != pixels:
        raise ValueError(f"its counts do not come to the image's {width} x {height} pixels")
    return runs
