"""COCO JSON (https://cocodataset.org/#format-data): one document per split with images, annotations, categories."""

from pathlib import Path
from typing import Any

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.dataset import Dataset, Sample
from nanocv_cli.data.formats.coco_document import (
    BoxDocument,
    Boxed,
    Image,
    Key,
    SegmentDocument,
    ordered_classes,
    read_boxed_document,
)
from nanocv_cli.data.formats.splits import SPLIT_FOLDERS, complete_splits
from nanocv_cli.data.labels.boxes import Boxes
from nanocv_cli.errors import DataError
from nanocv_cli.files import write_json
from nanocv_cli.folders import is_file
from nanocv_cli.untrusted import printable


def find_documents(root: Path) -> dict[str, Path]:
    """The annotation files of a folder by split (`all` for a single one without a split); none if it is no COCO set."""
    found = {}
    for folder, split in SPLIT_FOLDERS.items():
        names = (
            f"annotations/{folder}.json",
            f"annotations/instances_{folder}.json",
            f"{folder}.json",
            f"annotations/instances_{folder}2017.json",
            f"{folder}/_annotations.coco.json",
        )
        path = next((root / name for name in names if (root / name).is_file()), None)
        if path and split not in found:
            found[split] = path
    single = [root / name for name in ("annotations.json", "_annotations.coco.json", "annotations/annotations.json")]
    if not found and (path := next((path for path in single if path.is_file()), None)):
        found["all"] = path
    return found


def read_coco(config: DataConfig, root: Path) -> Dataset[Boxes]:
    """Reads a set in COCO's format; images are found, not opened.

    Category numbers are arbitrary: classes stand in the order of `config.classes`, else of their numbers.

    Raises:
        DataError: no annotation file, or one that is no COCO document.
    """
    paths = find_documents(root)
    if not paths:
        raise DataError(f"data set {config.name}: no COCO annotations under {root}", "expected annotations/train.json")
    documents = {split: read_boxed_document(path) for split, path in paths.items()}
    classes = config.classes or ordered_classes(next(iter(paths.values())), documents.values())
    notes: list[str] = []
    splits = {
        split: _samples(document, paths[split], root, split, classes, notes) for split, document in documents.items()
    }
    splits, more = complete_splits(splits, config)
    return Dataset(config.name, root, classes, {s: found for s, found in splits.items() if found}, (*notes, *more))


def write_coco(dataset: Dataset[Boxes], folder: Path) -> None:
    """Writes `annotations/{split}.json` and hard links (else copies) of the images into `{split}/`."""
    from nanocv_cli.data.formats.image_files import place_images

    for split, samples in dataset.splits.items():
        names = place_images(samples, folder / split)
        images = [
            {"id": n, "file_name": name, "width": sample.label.size[0], "height": sample.label.size[1]}
            for n, (name, sample) in enumerate(zip(names, samples, strict=True), start=1)
        ]
        annotations: list[dict[str, Any]] = []
        for number, sample in enumerate(samples, start=1):
            boxes = sample.label
            for corners, label, crowd in zip(boxes.corners, boxes.labels, boxes.crowd, strict=True):
                x0, y0, x1, y1 = corners
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": label + 1,
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "area": (x1 - x0) * (y1 - y0),
                        "iscrowd": int(crowd),
                    }
                )
        categories = [{"id": n, "name": name} for n, name in enumerate(dataset.classes, start=1)]
        document = {"images": images, "annotations": annotations, "categories": categories}
        write_json(folder / "annotations" / f"{split}.json", document)


def _samples(
    document: BoxDocument, path: Path, root: Path, split: str, classes: tuple[str, ...], notes: list[str]
) -> tuple[Sample[Boxes], ...]:
    label_of = labels_by_category(document, classes)
    by_image: dict[Key, list[Boxed]] = {image["id"]: [] for image in document["images"]}
    of_no_class = of_no_image = 0
    for annotation in document["annotations"]:
        if annotation["category_id"] not in label_of:
            of_no_class += 1
        elif annotation["image_id"] in by_image:
            by_image[annotation["image_id"]].append(annotation)
        else:
            of_no_image += 1
    if of_no_class:
        notes.append(f"{path.name}: {of_no_class} boxes of classes that the set does not name are left out")
    if of_no_image:
        notes.append(f"{path.name}: {of_no_image} boxes of images that it does not list are left out")
    images = placed_images(document, path, root, split, notes)
    return tuple(Sample(place, _boxes(by_image[image["id"]], image, label_of)) for image, place in images)


def labels_by_category(document: BoxDocument | SegmentDocument, classes: tuple[str, ...]) -> dict[int, int]:
    """The class index of each category number; categories that are no class of the set have none."""
    labels = {name: label for label, name in enumerate(classes)}
    return {entry["id"]: labels[entry["name"]] for entry in document["categories"] if entry["name"] in labels}


def placed_images(
    document: BoxDocument | SegmentDocument, path: Path, root: Path, split: str, notes: list[str]
) -> list[tuple[Image, Path]]:
    """The images of a document that are there, and where; says how many are not."""
    placed = [(image, _place(root, path, split, image["file_name"])) for image in document["images"]]
    missing = [image["file_name"] for image, place in placed if place is None]
    if missing:
        example = printable(missing[0], 60)
        notes.append(f"{path.name}: {len(missing)} images that it names are not there ({example}, ...)")
    return [(image, place) for image, place in placed if place is not None]


def _place(root: Path, document: Path, split: str, name: str) -> Path | None:
    """Where an image lies; a name that leads out of the set is treated as missing, a link does as it likes."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    folders = (root / split, document.parent, root / "images" / split, root / "images", root / f"{split}2017", root)
    return next((folder / name for folder in folders if is_file(folder / name)), None)


def _boxes(entries: list[Boxed], image: Image, label_of: dict[int, int]) -> Boxes:
    corners = tuple((x, y, x + width, y + height) for x, y, width, height in (entry["bbox"] for entry in entries))
    labels = tuple(label_of[entry["category_id"]] for entry in entries)
    crowd = tuple(bool(entry.get("iscrowd")) for entry in entries)
    return Boxes((image["width"], image["height"]), corners, labels, crowd, (False,) * len(entries))
