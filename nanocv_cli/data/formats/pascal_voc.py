"""Pascal VOC XML (http://host.robots.ox.ac.uk/pascal/VOC/): one file per image.

VOC counts pixels from 1 and names the last pixel inside: the box 1,1,10,10 covers ten pixels. Here that is 0,0,10,10.
"""

import os
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from xml.sax.saxutils import escape

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.dataset import SPLIT_FOLDERS, Dataset, Sample, Splits, name_problem
from nanocv_cli.data.formats.coco import FARTHEST, LARGEST_SIDE
from nanocv_cli.data.labels.boxes import Boxes, Corners
from nanocv_cli.data.splitting import complete_splits
from nanocv_cli.errors import DataError
from nanocv_cli.files import write_text
from nanocv_cli.folders import is_file
from nanocv_cli.foreign import read_text, read_xml
from nanocv_cli.images.resize import SUFFIXES
from nanocv_cli.untrusted import printable

ANNOTATION_FOLDERS = ("Annotations", "annotations", ".")
IMAGE_FOLDERS = ("JPEGImages", "images", ".", "..")
CORNERS = ("xmin", "ymin", "xmax", "ymax")

Objects = list[tuple[str, Corners, bool]]


def find_annotations(root: Path) -> dict[str, list[Path]]:
    """The XML files of a folder by split (`all` where there are none); empty if it is no VOC set.

    Raises:
        DataError: a list of a split cannot be read, or names a file twice.
    """
    lists = root / "ImageSets" / "Main"
    annotations = root / "Annotations"
    found: dict[str, list[Path]] = {}
    for folder, split in SPLIT_FOLDERS.items():
        if (lists / f"{folder}.txt").is_file() and annotations.is_dir():
            found.setdefault(split, _listed(lists / f"{folder}.txt", annotations))
        elif (root / folder).is_dir() and (files := _xml_in(root / folder)):
            found.setdefault(split, files)
    if not found and (files := _xml_in(root)):
        found["all"] = files
    return found


def _listed(path: Path, annotations: Path) -> list[Path]:
    """The annotations that a list names, one in each line, which a flag may follow."""
    names = [Path(line.strip()).name for line in read_text(path).split("\n")]
    whole = {name: " " not in name or is_file(annotations / f"{name}.xml") for name in names}
    stems = [name if whole[name] else name.split()[0] for name in names if name]
    if twice := next((stem for stem, count in Counter(stems).items() if count > 1), None):
        raise DataError(f"{path}: {printable(twice, 100)} stands twice in it", "leave all lines but one out")
    return [annotations / f"{stem}.xml" for stem in stems]


def read_pascal_voc(config: DataConfig, root: Path) -> Dataset[Boxes]:
    """Reads a set in Pascal VOC's format; images are found, not opened.

    Raises:
        DataError: no annotations, or a file that is no VOC annotation.
    """
    files = find_annotations(root)
    if not files:
        raise DataError(f"data set {config.name}: no Pascal VOC annotations under {root}", "expected Annotations/*.xml")
    parsed = {
        split: [(path, *read_xml(path, _read, "Pascal VOC annotation")) for path in paths if is_file(path)]
        for split, paths in files.items()
    }
    missing = sum(len(paths) for paths in files.values()) - sum(len(found) for found in parsed.values())
    names = sorted({name for found in parsed.values() for _, _, objects, _ in found for name, _, _ in objects})
    classes = config.classes or tuple(names)
    notes = [f"{missing} annotations are not there, or are no files"] if missing else []
    if unknown := [name for name in names if name not in classes]:
        notes.append(f"boxes of classes that the set does not name are left out: {printable(', '.join(unknown))}")
    splits: Splits[Boxes] = {split: _samples(found, root, classes, notes) for split, found in parsed.items()}
    splits, more = complete_splits(splits, config, root)
    return Dataset(config.name, root, classes, {s: found for s, found in splits.items() if found}, (*notes, *more))


def _samples(
    parsed: list[tuple[Path, tuple[int, int], Objects, str]], root: Path, classes: tuple[str, ...], notes: list[str]
) -> tuple[Sample[Boxes], ...]:
    labels = {name: label for label, name in enumerate(classes)}
    samples, missing = [], []
    for path, size, objects, image in parsed:
        place = _image(path, image, root)
        if place is None:
            missing.append(path)
            continue
        kept = [entry for entry in objects if entry[0] in labels]
        boxes = Boxes(size, tuple(corners for _, corners, _ in kept), tuple(labels[name] for name, _, _ in kept),
                      (False,) * len(kept), tuple(difficult for _, _, difficult in kept))  # fmt: skip
        samples.append(Sample(place, boxes))
    if missing:
        notes.append(f"the images of {len(missing)} annotations are not there ({printable(missing[0].name)}, ...)")
    return tuple(samples)


def write_pascal_voc(dataset: Dataset[Boxes], folder: Path) -> None:
    """Writes `Annotations/`, `JPEGImages/` (hard links, else copies) and `ImageSets/Main/{split}.txt`."""
    from nanocv_cli.data.formats.image_files import place_images

    everything = [sample for samples in dataset.splits.values() for sample in samples]
    names = iter(place_images(everything, folder / "JPEGImages"))
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
    for place in (folder / name for name in ANNOTATION_FOLDERS):
        if place.is_dir() and (files := sorted(path for path in place.glob("*.xml") if path.name[0] != ".")):
            return files
    return []


def _read(tree: "ElementTree.Element") -> tuple[tuple[int, int], Objects, str]:
    """Size, objects and image name of one annotation; the name is empty where none is stated."""
    size = (int(_number(tree, "size/width")), int(_number(tree, "size/height")))
    if not all(1 <= side <= LARGEST_SIDE for side in size):
        raise ValueError(f"its size is {size[0]}x{size[1]}")
    objects: Objects = []
    for entry in tree.iter("object"):
        x0, y0, x1, y1 = (_number(entry, f"bndbox/{name}") for name in CORNERS)
        name = (entry.findtext("name") or "").strip()
        if problem := name_problem(name):
            raise ValueError(f"the class name '{printable(name, 40)}' {problem}")
        objects.append((name, (x0 - 1.0, y0 - 1.0, x1, y1), entry.findtext("difficult", "0").strip() == "1"))
    return size, objects, (tree.findtext("filename") or "").strip()


def _number(entry: "ElementTree.Element", place: str) -> float:
    text = entry.findtext(place)
    if text is None:
        raise ValueError(f"{place} is missing")
    value = float(text)
    if not -FARTHEST <= value <= FARTHEST:
        raise ValueError(f"{place} is {value}")
    return value


def _image(annotation: Path, name: str, root: Path) -> Path | None:
    """The image of an annotation: of its stem, else of the name that it states."""
    stated = Path(name).name or f"{annotation.stem}.jpg"
    for place in _places(annotation.parent, root):
        for candidate in (*(f"{annotation.stem}{suffix}" for suffix in sorted(SUFFIXES)), stated):
            if is_file(place / candidate):
                return place / candidate
    return None


@lru_cache(maxsize=64)
def _places(annotations: Path, root: Path) -> tuple[Path, ...]:
    """Where images may lie; by their names, so that a link stays the link it is."""
    folders = (annotations, annotations.parent, root)
    places = (os.path.normpath(folder / part) for folder in folders for part in IMAGE_FOLDERS)
    return tuple(Path(place) for place in dict.fromkeys(places))
