"""COCO JSON (https://cocodataset.org/#format-data): one document per split with images, annotations, categories."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, FailFast, Field, GetPydanticSchema, TypeAdapter, with_config
from pydantic_core import core_schema
from typing_extensions import TypedDict  # of pydantic, which takes no other before Python 3.12

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.dataset import SPLIT_FOLDERS, Dataset, Sample, Splits, class_names
from nanocv_cli.data.labels.boxes import Boxes
from nanocv_cli.data.splitting import complete_splits
from nanocv_cli.errors import DataError
from nanocv_cli.files import write_json
from nanocv_cli.folders import is_file
from nanocv_cli.foreign import read_json
from nanocv_cli.untrusted import printable

HINT = "mend it, or write the annotations again"
LARGEST_SIDE = 1_000_000  # pixels
FARTHEST = 1e9  # pixels from the image's corner; more is no measurement

Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Coordinate = Annotated[float, Field(ge=-FARTHEST, le=FARTHEST)]
Side = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]


def _either(message: str, *choices: core_schema.CoreSchema) -> Any:
    """One of several types, told of as one where it is none of them."""
    union = core_schema.union_schema(list(choices), custom_error_type="either", custom_error_message=message)
    return GetPydanticSchema(lambda source, handler: union)


# Whole numbers by COCO; some programs write text.
Key = Annotated[
    int | str,
    _either(
        "should be a whole number or a text",
        core_schema.int_schema(strict=True, ge=-(2**63), le=2**63 - 1),
        core_schema.str_schema(strict=True, max_length=1000),
    ),
]
Flag = Annotated[
    int | bool | None,
    _either(
        "should be 0 or 1",
        core_schema.bool_schema(strict=True),
        core_schema.int_schema(strict=True, ge=0, le=1),
        core_schema.none_schema(),
    ),
]
STRICT = ConfigDict(strict=True, allow_inf_nan=False)


@with_config(STRICT)
class Image(TypedDict):
    """An entry of `images`."""

    id: Key
    file_name: Annotated[str, Field(max_length=4096)]
    width: Side
    height: Side


@with_config(STRICT)
class Category(TypedDict):
    """An entry of `categories`."""

    id: Whole
    name: str


@with_config(STRICT)
class Boxed(TypedDict):
    """An entry of `annotations` with a box: x, y, width, height in pixels."""

    image_id: Key
    category_id: Whole
    bbox: tuple[Coordinate, Coordinate, Coordinate, Coordinate]
    iscrowd: NotRequired[Flag]


@with_config(STRICT)
class Segmented(TypedDict):
    """An entry of `annotations` with a segmentation, which is looked at when it is drawn."""

    image_id: Key
    category_id: Whole
    segmentation: NotRequired[Any]
    iscrowd: NotRequired[Flag]


class _Document(TypedDict):
    images: Annotated[list[Image], FailFast()]
    categories: Annotated[list[Category], FailFast()]


@with_config(STRICT)
class BoxDocument(_Document):
    """A split's boxes."""

    annotations: Annotated[list[Boxed], FailFast()]


@with_config(STRICT)
class SegmentDocument(_Document):
    """A split's segments."""

    annotations: Annotated[list[Segmented], FailFast()]


_BOXES, _SEGMENTS = TypeAdapter(BoxDocument), TypeAdapter(SegmentDocument)


def read_boxed_document(path: Path) -> BoxDocument:
    """Reads one split's boxes.

    Raises:
        DataError: it is no such document; the message names file and place.
    """
    document = read_json(path, _BOXES, HINT)
    _check(document, path)
    return document


def read_segmented_document(path: Path) -> SegmentDocument:
    """Reads one split's segments; see `read_boxed_document`."""
    document = read_json(path, _SEGMENTS, HINT)
    _check(document, path)
    return document


def ordered_classes(path: Path, documents: Iterable[BoxDocument | SegmentDocument]) -> tuple[str, ...]:
    """The classes of all splits in the order of their numbers, a name that has several numbers once.

    Args:
        path: of the documents, for messages.
        documents: the splits.

    Raises:
        DataError: a name is none.
    """
    numbered = {(entry["id"], entry["name"]) for document in documents for entry in document["categories"]}
    return class_names(dict.fromkeys(name for _, name in sorted(numbered)), path)


def _check(document: _Document, path: Path) -> None:
    """What no type says: images and categories are told apart by their numbers, and no file is there twice."""
    for key in ("images", "categories"):
        twice = [number for number, count in Counter(entry["id"] for entry in document[key]).items() if count > 1]
        if twice:
            raise DataError(f"{path}: the id {printable(twice[0], 40)} stands twice in {key}", HINT)
    files = Counter(entry["file_name"] for entry in document["images"])
    if repeated := [name for name, count in files.items() if count > 1]:
        raise DataError(
            f"{path}: the file {printable(repeated[0], 100)} stands twice in images",
            "give it one entry, which all of its annotations name",
        )
    class_names(dict.fromkeys(entry["name"] for entry in document["categories"]), path)


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
    splits: Splits[Boxes] = {
        split: _samples(document, paths[split], root, split, classes, notes) for split, document in documents.items()
    }
    splits, more = complete_splits(splits, config, root)
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
