"""COCO JSON (https://cocodataset.org/#format-data): one document per split with images, annotations, categories."""

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.boxes import Boxes
from nanocv_cli.data.dataset import Dataset, Sample
from nanocv_cli.data.formats.splits import SPLIT_FOLDERS, complete_splits
from nanocv_cli.errors import DataError
from nanocv_cli.files import write_json


def find_documents(root: Path) -> dict[str, Path]:
    """The annotation files of a folder by split (`all` for a single one without a split); none if it is no COCO set."""
    found = {}
    for folder, split in SPLIT_FOLDERS.items():
        names = (f"annotations/{folder}.json", f"annotations/instances_{folder}.json", f"{folder}.json",
                 f"annotations/instances_{folder}2017.json", f"{folder}/_annotations.coco.json")  # fmt: skip
        path = next((root / name for name in names if (root / name).is_file()), None)
        if path and split not in found:
            found[split] = path
    single = [root / name for name in ("annotations.json", "_annotations.coco.json", "annotations/annotations.json")]
    if not found and (path := next((path for path in single if path.is_file()), None)):
        found["all"] = path
    return found


def read_coco(config: DataConfig, root: Path) -> Dataset[Boxes]:
    """Reads a set in COCO's format; pictures are found, not opened.

    Category numbers are arbitrary: classes stand in the order of `config.classes`, else of their numbers.

    Raises:
        DataError: no annotation file, or one that is no COCO document.
    """
    documents = {split: load_document(path) for split, path in find_documents(root).items()}
    if not documents:
        raise DataError(f"data set {config.name}: no COCO annotations under {root}", "expected annotations/train.json")
    paths = find_documents(root)
    names = {number: name for split in documents for number, name in categories_of(documents[split], paths[split])}
    classes = config.classes or tuple(dict.fromkeys(names[number] for number in sorted(names)))
    notes: list[str] = []
    splits = {
        split: _samples(document, paths[split], root, split, classes, notes) for split, document in documents.items()
    }
    splits, more = complete_splits(splits, config)
    return Dataset(config.name, root, classes, {s: found for s, found in splits.items() if found}, (*notes, *more))


def write_coco(dataset: Dataset[Boxes], folder: Path) -> None:
    """Writes `annotations/{split}.json` and hard links (else copies) of the pictures into `{split}/`."""
    from nanocv_cli.data.formats.pictures import place_pictures

    for split, samples in dataset.splits.items():
        names = place_pictures(samples, folder / split)
        images = [
            {"id": n, "file_name": name, "width": sample.label.size[0], "height": sample.label.size[1]}
            for n, (name, sample) in enumerate(zip(names, samples, strict=True), start=1)
        ]
        annotations: list[dict[str, Any]] = []
        for number, sample in enumerate(samples, start=1):
            boxes = sample.label
            for corners, label, crowd in zip(boxes.corners, boxes.labels, boxes.crowd, strict=True):
                x0, y0, x1, y1 = corners
                annotations.append({
                    "id": len(annotations) + 1, "image_id": number, "category_id": label + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": int(crowd),
                })  # fmt: skip
        categories = [{"id": n, "name": name} for n, name in enumerate(dataset.classes, start=1)]
        document = {"images": images, "annotations": annotations, "categories": categories}
        write_json(folder / "annotations" / f"{split}.json", document)


def load_document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON document: {str(error)[:120]}", "write the annotations again") from error
    if not isinstance(document, dict) or not all(isinstance(document.get(key), list) for key in
                                                 ("images", "annotations", "categories")):  # fmt: skip
        raise DataError(f"{path} is no COCO document", "it needs the lists images, annotations and categories")
    return document


def categories_of(document: dict[str, Any], path: Path) -> list[tuple[int, str]]:
    found = []
    for entry in document["categories"]:
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("id"), int)
            or not isinstance(entry.get("name"), str)
        ):
            raise DataError(
                f"{path}: a category has no whole number as id or no name", "as in {'id': 1, 'name': 'cat'}"
            )
        found.append((entry["id"], entry["name"]))
    return found


def _samples(
    document: dict[str, Any], path: Path, root: Path, split: str, classes: tuple[str, ...], notes: list[str]
) -> tuple[Sample[Boxes], ...]:
    label_of = {number: classes.index(name) for number, name in categories_of(document, path) if name in classes}
    by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    unknown = 0
    for annotation in document["annotations"]:
        if not isinstance(annotation, dict) or "image_id" not in annotation:
            raise DataError(f"{path}: an annotation has no image_id", "write the annotations again")
        if annotation.get("category_id") in label_of:
            by_image[annotation["image_id"]].append(annotation)
        else:
            unknown += 1
    if unknown:
        notes.append(f"{path.name}: {unknown} boxes of classes that the set does not name are left out")
    found, missing = [], 0
    for image in document["images"]:
        if not isinstance(image, dict) or not all(isinstance(image.get(k), t) for k, t in
                                                  (("file_name", str), ("width", int), ("height", int))):  # fmt: skip
            raise DataError(f"{path}: an image has no file_name, width or height", "write the annotations again")
        place = find_picture(root, path, split, image["file_name"])
        if place is None:
            missing += 1
            continue
        found.append(Sample(place, _boxes(by_image.get(image.get("id"), []), image, label_of, path)))
    if missing:
        notes.append(f"{path.name}: {missing} pictures that it names are not there")
    return tuple(found)


def find_picture(root: Path, document: Path, split: str, name: str) -> Path | None:
    """Where a picture lies; a name that leads out of the set is treated as missing."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    folders = (root / split, document.parent, root / "images" / split, root / "images", root / f"{split}2017", root)
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _boxes(entries: list[dict[str, Any]], image: dict[str, Any], label_of: dict[int, int], path: Path) -> Boxes:
    corners = []
    for entry in entries:
        box = entry.get("bbox")
        is_box = (
            isinstance(box, list) and len(box) == 4 and all(type(v) in (int, float) and math.isfinite(v) for v in box)
        )
        if not is_box:
            raise DataError(
                f"{path}: the bbox of annotation {entry.get('id')} is {box}", "expected [x, y, width, height]"
            )
        x, y, width, height = map(float, box)  # type: ignore[arg-type]
        corners.append((x, y, x + width, y + height))
    labels = tuple(label_of[entry["category_id"]] for entry in entries)
    crowd = tuple(bool(entry.get("iscrowd", 0)) for entry in entries)
    return Boxes((image["width"], image["height"]), tuple(corners), labels, crowd, (False,) * len(entries))
