"""COCO's polygons and run-length codes as masks, checked before anything is drawn from them.

A mask is a list of lengths that lie alternately outside and inside of the object, column by column, and come to height
times width together. As text they are the code of cocoapi's `rleFrString`: groups of five bits, of differences from the
length before the last.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.dataset import Dataset, Sample, Splits
from nanocv_cli.data.formats.coco import (
    Key,
    SegmentDocument,
    find_documents,
    labels_by_category,
    ordered_classes,
    placed_images,
    read_segmented_document,
)
from nanocv_cli.data.labels.masks import IGNORED, Mask, check_class_count
from nanocv_cli.data.splitting import complete_splits
from nanocv_cli.errors import DataError
from nanocv_cli.images.bounds import MAX_PIXELS
from nanocv_cli.images.drawing import BACKGROUND
from nanocv_cli.images.image_file import MEMORY

# Steps along a polygon's edges that its drawing walks, in pixels; a contour of a whole large street scene has 100,000.
MOST_STEPS = 1 << 22
MOST_DIGITS = 7  # of five bits, in one length

Runs = NDArray[np.int64]


@dataclass(frozen=True)
class CocoMask(Mask):
    """The segments of one image.

    Attributes:
        document: the annotation file, for messages.
        size: width and height, pixels.
        segments: class index (`IGNORED` for crowds) and segmentation as JSON of each object, in the document's order;
            later ones lie on top.
    """

    document: Path
    size: tuple[int, int]
    segments: tuple[tuple[int, str], ...]

    def read(self) -> NDArray[np.uint8]:
        """See `Mask`: background 0, classes from 1 on."""
        width, height = self.size
        if width * height > MAX_PIXELS:
            raise DataError(f"{self.document}: an image of {width} x {height} pixels is too large", "tile it first")
        with MEMORY.reserved(2 * width * height):
            columns = np.zeros(width * height, np.uint8)
            for label, text in self.segments:
                try:
                    objects = runs_of(json.loads(text), width, height)
                except ValueError as error:
                    message = f"{self.document}: a segmentation cannot be read: {error}"
                    raise DataError(message, "write it again") from error
                for runs in objects:
                    edges = np.cumsum(runs)
                    for start, end in zip(edges[:-1:2].tolist(), edges[1::2].tolist(), strict=True):
                        columns[start:end] = label
            return np.ascontiguousarray(columns.reshape(width, height).T)

    def key(self) -> str:
        """See `Mask`."""
        return f"{self.size} {self.segments}"


def read_coco_masks(config: DataConfig, root: Path) -> Dataset[Mask]:
    """Reads COCO annotations as masks: class 0 is the background, then the categories; crowds are ignored.

    Raises:
        DataError: no annotation file, one that is no COCO document, or one without a segmentation.
    """
    paths = find_documents(root)
    documents = {split: read_segmented_document(path) for split, path in paths.items()}
    source = next(iter(paths.values()), root)
    named = config.classes or ordered_classes(source, documents.values())
    classes = (BACKGROUND, *(name for name in named if name != BACKGROUND))
    check_class_count(classes, source)
    notes: list[str] = []
    splits: Splits[Mask] = {
        split: _samples(document, paths[split], root, split, classes, notes) for split, document in documents.items()
    }
    splits, more = complete_splits(splits, config, root)
    return Dataset(config.name, root, classes, {s: found for s, found in splits.items() if found}, (*notes, *more))


def _samples(
    document: SegmentDocument, path: Path, root: Path, split: str, classes: tuple[str, ...], notes: list[str]
) -> tuple[Sample[Mask], ...]:
    label_of = labels_by_category(document, classes)
    segments: dict[Key, list[tuple[int, str]]] = defaultdict(list)
    for entry in document["annotations"]:
        label = label_of.get(entry["category_id"])
        if label is not None and entry.get("segmentation"):
            code = json.dumps(entry["segmentation"])
            segments[entry["image_id"]].append((IGNORED if entry.get("iscrowd") else label, code))
    if not segments:
        raise DataError(f"{path} has boxes but no segmentation", "segmentation needs polygons, RLE or mask images")
    return tuple(
        Sample(place, CocoMask(path, (image["width"], image["height"]), tuple(segments.get(image["id"], ()))))
        for image, place in placed_images(document, path, root, split, notes)
    )


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
