"""COCO's polygons and run-length codes as masks."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.dataset import Dataset, Sample
from nanocv_cli.data.formats.coco import find_documents, labels_by_category, placed_images
from nanocv_cli.data.formats.coco_document import Key, SegmentDocument, ordered_classes, read_segmented_document
from nanocv_cli.data.formats.run_lengths import runs_of
from nanocv_cli.data.formats.splits import complete_splits
from nanocv_cli.data.labels.masks import IGNORED, Mask, check_class_count
from nanocv_cli.errors import DataError
from nanocv_cli.images.drawing import BACKGROUND
from nanocv_cli.images.image_file import MAX_PIXELS, MEMORY


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
    splits = {
        split: _samples(document, paths[split], root, split, classes, notes) for split, document in documents.items()
    }
    splits, more = complete_splits(splits, config)
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
