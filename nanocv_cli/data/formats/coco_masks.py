"""COCO's polygons and run-length codes as masks, by COCO's own mask code (in faster-coco-eval)."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.dataset import Dataset, Sample
from nanocv_cli.data.formats.coco import categories_of, find_documents, find_picture, load_document
from nanocv_cli.data.formats.mask_folders import BACKGROUND
from nanocv_cli.data.formats.splits import complete_splits
from nanocv_cli.data.masks import IGNORED, Mask
from nanocv_cli.errors import DataError


@dataclass(frozen=True)
class CocoMask:
    """The segments of one picture.

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
        """See `data.masks.Mask`: background 0, classes from 1 on."""
        from faster_coco_eval import mask as coco_mask

        width, height = self.size
        found = np.zeros((height, width), np.uint8)
        for label, text in self.segments:
            code: Any = json.loads(text)
            try:
                if isinstance(code, list):
                    code = coco_mask.merge(coco_mask.frPyObjects(code, height, width))
                elif isinstance(code.get("counts"), list):
                    code = coco_mask.frPyObjects(code, height, width)
                drawn = coco_mask.decode(code).astype(bool)
            except Exception as error:  # the C++ code raises whatever it likes
                raise DataError(f"{self.document}: a segmentation cannot be read: {error}", "write it again") from error
            if drawn.shape != found.shape:
                raise DataError(f"{self.document}: a segmentation is {drawn.shape}, its picture {found.shape}", "")
            found[drawn] = label
        return found

    def key(self) -> str:
        """See `data.masks.Mask`."""
        return f"{self.size} {self.segments}"


def read_coco_masks(config: DataConfig, root: Path) -> Dataset[Mask]:
    """Reads COCO annotations as masks: class 0 is the background, then the categories; crowds are ignored.

    Raises:
        DataError: no annotation file, one that is no COCO document, or one without a segmentation.
    """
    paths = find_documents(root)
    documents = {split: load_document(path) for split, path in paths.items()}
    names = {
        number: name for split, document in documents.items() for number, name in categories_of(document, paths[split])
    }
    classes = (BACKGROUND, *(config.classes or dict.fromkeys(names[number] for number in sorted(names))))
    notes: list[str] = []
    splits: dict[str, tuple[Sample[Mask], ...]] = {}
    for split, document in documents.items():
        path = paths[split]
        label_of = {number: classes.index(name) for number, name in categories_of(document, path) if name in classes}
        segments: dict[Any, list[tuple[int, str]]] = defaultdict(list)
        for entry in document["annotations"]:
            category = entry.get("category_id") if isinstance(entry, dict) else None
            label = label_of.get(category) if isinstance(category, int) else None
            if label is not None and entry.get("segmentation"):
                code = json.dumps(entry["segmentation"])
                segments[entry.get("image_id")].append((IGNORED if entry.get("iscrowd") else label, code))
        samples: list[Sample[Mask]] = []
        for image in document["images"]:
            place = find_picture(root, path, split, str(image.get("file_name", "")))
            if place is None:
                notes.append(f"{path.name}: its picture {image.get('file_name')} is not there")
                continue
            size = (int(image["width"]), int(image["height"]))
            samples.append(Sample(place, CocoMask(path, size, tuple(segments.get(image.get("id"), ())))))
        if not segments:
            raise DataError(
                f"{path} has boxes but no segmentation", "segmentation needs polygons, RLE or mask pictures"
            )
        splits[split] = tuple(samples)
    whole, more = complete_splits(splits, config)
    return Dataset(config.name, root, classes, {s: found for s, found in whole.items() if found}, (*notes, *more))
