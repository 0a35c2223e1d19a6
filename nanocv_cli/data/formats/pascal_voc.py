"""Pascal VOC XML (http://host.robots.ox.ac.uk/pascal/VOC/): one file per picture.

VOC counts pixels from 1 and names the last pixel inside: the box 1,1,10,10 covers ten pixels. Here that is 0,0,10,10.
"""

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.boxes import Boxes, Corners
from nanocv_cli.data.dataset import Dataset, Sample
from nanocv_cli.data.formats.splits import SPLIT_FOLDERS, complete_splits
from nanocv_cli.errors import DataError
from nanocv_cli.files import write_text
from nanocv_cli.inference.images import SUFFIXES

LARGEST_FILE = 16 * 2**20
ANNOTATION_FOLDERS = ("Annotations", "annotations", ".")
PICTURE_FOLDERS = ("JPEGImages", "images", ".", "..")
CORNERS = ("xmin", "ymin", "xmax", "ymax")

Objects = list[tuple[str, Corners, bool]]


def find_annotations(root: Path) -> dict[str, list[Path]]:
    """The XML files of a folder by split (`all` where there are none); empty if it is no VOC set."""
    lists = root / "ImageSets" / "Main"
    annotations = root / "Annotations"
    found: dict[str, list[Path]] = {}
    for folder, split in SPLIT_FOLDERS.items():
        if (lists / f"{folder}.txt").is_file() and annotations.is_dir():
            names = (lists / f"{folder}.txt").read_text(encoding="utf-8").split("\n")
            stems = [name.split()[0] for name in names if name.strip()]
            found.setdefault(split, [annotations / f"{Path(stem).name}.xml" for stem in stems])
        elif (root / folder).is_dir() and (files := _xml_in(root / folder)):
            found.setdefault(split, files)
    if not found and (files := _xml_in(root)):
        found["all"] = files
    return found


def read_pascal_voc(config: DataConfig, root: Path) -> Dataset[Boxes]:
    """Reads a set in Pascal VOC's format; pictures are found, not opened.

    Raises:
        DataError: no annotations, or a file that is no VOC annotation.
    """
    files = find_annotations(root)
    if not files:
        raise DataError(f"data set {config.name}: no Pascal VOC annotations under {root}", "expected Annotations/*.xml")
    parsed = {split: [(path, *_parse(path)) for path in paths if path.is_file()] for split, paths in files.items()}
    missing = sum(len(paths) for paths in files.values()) - sum(len(found) for found in parsed.values())
    names = sorted({name for found in parsed.values() for _, _, objects, _ in found for name, _, _ in objects})
    classes = config.classes or tuple(names)
    notes = [f"{missing} pictures of ImageSets have no annotation"] if missing else []
    if unknown := [name for name in names if name not in classes]:
        notes.append(f"boxes of classes that the set does not name are left out: {', '.join(unknown)}")
    splits: dict[str, tuple[Sample[Boxes], ...]] = {}
    for split, found in parsed.items():
        samples = []
        for path, size, objects, picture in found:
            place = _picture(path, picture, root)
            if place is None:
                notes.append(f"{path.name}: its picture {picture} is not there")
                continue
            kept = [entry for entry in objects if entry[0] in classes]
            boxes = Boxes(size, tuple(corners for _, corners, _ in kept),
                          tuple(classes.index(name) for name, _, _ in kept), (False,) * len(kept),
                          tuple(difficult for _, _, difficult in kept))  # fmt: skip
            samples.append(Sample(place, boxes))
        splits[split] = tuple(samples)
    splits, more = complete_splits(splits, config)
    return Dataset(config.name, root, classes, {s: found for s, found in splits.items() if found}, (*notes, *more))


def write_pascal_voc(dataset: Dataset[Boxes], folder: Path) -> None:
    """Writes `Annotations/`, `JPEGImages/` (hard links, else copies) and `ImageSets/Main/{split}.txt`."""
    from nanocv_cli.data.formats.pictures import place_pictures

    everything = [sample for samples in dataset.splits.values() for sample in samples]
    names = iter(place_pictures(everything, folder / "JPEGImages"))
    for split, samples in dataset.splits.items():
        stems = []
        for sample in samples:
            name = next(names)
            stems.append(Path(name).stem)
            lines = "".join(_written(sample.label, dataset.classes))
            width, height = sample.label.size
            text = (
                f"<annotation>\n<filename>{escape(name)}</filename>\n"
                f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n{lines}</annotation>\n"
            )
            write_text(folder / "Annotations" / f"{stems[-1]}.xml", text)
        write_text(folder / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))


def _written(boxes: Boxes, classes: tuple[str, ...]) -> Iterator[str]:
    for corners, label, difficult in zip(boxes.corners, boxes.labels, boxes.difficult, strict=True):
        x0, y0, x1, y1 = corners
        places = zip(CORNERS, (x0 + 1.0, y0 + 1.0, x1, y1), strict=True)
        sides = "".join(f"<{name}>{value!r}</{name}>" for name, value in places)
        yield (
            f"<object><name>{escape(classes[label])}</name><difficult>{int(difficult)}</difficult>"
            f"<bndbox>{sides}</bndbox></object>\n"
        )


def _xml_in(folder: Path) -> list[Path]:
    places = (folder / name for name in ANNOTATION_FOLDERS)
    return next((files for place in places if place.is_dir() and (files := sorted(place.glob("*.xml")))), [])


def _parse(path: Path) -> tuple[tuple[int, int], Objects, str]:
    """Size, objects and picture name of one annotation."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"it is larger than {LARGEST_FILE // 2**20} MiB")
        content = path.read_bytes()
        # A document type may define entities that grow without end; an annotation needs none.
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise ValueError("it defines a document type")
        tree = ElementTree.fromstring(content)
        size = (_whole(tree, "size/width"), _whole(tree, "size/height"))
        objects: Objects = []
        for entry in tree.iter("object"):
            x0, y0, x1, y1 = (_number(entry, f"bndbox/{name}") for name in CORNERS)
            name = (entry.findtext("name") or "").strip()
            if not name:
                raise ValueError("an object has no name")
            objects.append((name, (x0 - 1.0, y0 - 1.0, x1, y1), entry.findtext("difficult", "0").strip() == "1"))
        if min(size) < 1:
            raise ValueError(f"its size is {size[0]}x{size[1]}")
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise DataError(f"{path} is no Pascal VOC annotation: {str(error)[:120]}", "write it again") from error
    return size, objects, (tree.findtext("filename") or f"{path.stem}.jpg").strip()


def _number(entry: "ElementTree.Element", place: str) -> float:
    value = float(entry.findtext(place, "nothing"))
    if not math.isfinite(value):
        raise ValueError(f"{place} is {value}")
    return value


def _whole(entry: "ElementTree.Element", place: str) -> int:
    return int(_number(entry, place))


def _picture(annotation: Path, name: str, root: Path) -> Path | None:
    """The picture of an annotation: of its stem, else of the name that it states."""
    for folder in (annotation.parent, annotation.parent.parent, root):
        for place in (folder / part for part in PICTURE_FOLDERS):
            for candidate in (*(f"{annotation.stem}{suffix}" for suffix in SUFFIXES), Path(name).name):
                if (place / candidate).is_file():
                    return (place / candidate).resolve()
    return None
