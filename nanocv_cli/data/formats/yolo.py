"""YOLO text files: a line `class cx cy width height` per object, in shares of the image; no file, no object."""

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.dataset import SPLIT_FOLDERS, Dataset, Sample, Splits, class_names
from nanocv_cli.data.labels.boxes import Boxes, Corners
from nanocv_cli.data.splitting import complete_splits
from nanocv_cli.errors import DataError
from nanocv_cli.files import write_text
from nanocv_cli.folders import files_below
from nanocv_cli.foreign import read_text, read_yaml
from nanocv_cli.images.image_file import UnreadableImageError, image_size
from nanocv_cli.images.resize import SUFFIXES
from nanocv_cli.untrusted import printable

NAMES_HINT = "expected names: [cat, dog]"
FARTHEST = 1000.0  # shares of the image; more is no measurement

_SETTINGS = TypeAdapter(dict[str, Any])


def find_folders(root: Path) -> dict[str, tuple[Path, Path]]:
    """Folders of images and of labels by split (`all` where there are none); empty if it is no YOLO set."""
    found: dict[str, tuple[Path, Path]] = {}
    for folder, split in SPLIT_FOLDERS.items():
        for images, labels in ((f"images/{folder}", f"labels/{folder}"), (f"{folder}/images", f"{folder}/labels")):
            if (root / images).is_dir() and (root / labels).is_dir():
                found.setdefault(split, (root / images, root / labels))
    if not found and (root / "images").is_dir() and (root / "labels").is_dir():
        found["all"] = (root / "images", root / "labels")
    return found


def read_yolo(config: DataConfig, root: Path) -> Dataset[Boxes]:
    """Reads a set of YOLO text files; of images only the header is read, for their size.

    Class names come from `data.yaml` or `classes.txt`; `config.classes` in another order is matched by name.

    Raises:
        DataError: no labels, no class names, or a line that is no object.
    """
    folders = find_folders(root)
    if not folders:
        raise DataError(
            f"data set {config.name}: no YOLO labels under {root}", "expected images/train and labels/train"
        )
    names = _class_names(root) or config.classes
    if not names:
        raise DataError(f"data set {config.name}: no class names", "add data.yaml with names: [...], or classes.txt")
    classes = config.classes or names
    notes = [f"class {name} is not among the set's: its boxes are left out" for name in names if name not in classes]
    splits: Splits[Boxes] = {
        split: tuple(_sample(image, labels, names, classes) for image in files_below(images, SUFFIXES))
        for split, (images, labels) in folders.items()
    }
    splits, more = complete_splits(splits, config, root)
    return Dataset(config.name, root, classes, {s: found for s, found in splits.items() if found}, (*notes, *more))


def write_yolo(dataset: Dataset[Boxes], folder: Path) -> None:
    """Writes `images/{split}` (hard links, else copies), `labels/{split}` and `data.yaml`."""
    from nanocv_cli.data.formats.image_files import place_images

    for split, samples in dataset.splits.items():
        names = place_images(samples, folder / "images" / split)
        for name, sample in zip(names, samples, strict=True):
            width, height = sample.label.size
            lines = []
            for (x0, y0, x1, y1), label in zip(sample.label.corners, sample.label.labels, strict=True):
                shares = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
                lines.append(f"{label} {' '.join(map(repr, shares))}\n")
            write_text(folder / "labels" / split / f"{Path(name).stem}.txt", "".join(lines))
    document = {**{split: f"images/{split}" for split in dataset.splits}, "names": list(dataset.classes)}
    write_text(folder / "data.yaml", yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def _class_names(root: Path) -> tuple[str, ...] | None:
    listing = root / "classes.txt"
    for path in (root / "data.yaml", root / "dataset.yaml"):
        if path.is_file():
            return class_names(_ordered(read_yaml(path, _SETTINGS, NAMES_HINT).get("names"), path), path)
    if listing.is_file():
        return class_names((line.strip() for line in read_text(listing).splitlines() if line.strip()), listing)
    return None


def _ordered(names: Any, path: Path) -> list[str]:
    """The names of a list, or of a mapping from 0, 1, 2 and so on."""
    if isinstance(names, dict):
        numbers = [str(number) for number in range(len(names))]
        if set(names) != set(numbers):
            raise DataError(f"{path}: its names are not numbered from 0 to {len(names) - 1}", NAMES_HINT)
        names = [names[number] for number in numbers]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path} names no classes", NAMES_HINT)
    return names


def _sample(image: Path, labels: Path, names: tuple[str, ...], classes: tuple[str, ...]) -> Sample[Boxes]:
    try:
        width, height = image_size(image)
    except UnreadableImageError:
        width = height = 1  # the cache leaves it out and says so
    path = labels / f"{image.stem}.txt"
    corners: list[Corners] = []
    kept: list[int] = []
    # A link to nothing is no missing file: the image had labels once.
    lines = read_text(path).splitlines() if os.path.lexists(path) else []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        label, (cx, cy, w, h) = _object(path, number, line, len(names))
        if names[label] in classes:
            kept.append(classes.index(names[label]))
            corners.append(((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height))
    flags = (False,) * len(kept)
    return Sample(image, Boxes((width, height), tuple(corners), tuple(kept), flags, flags))


def _object(path: Path, number: int, line: str, classes: int) -> tuple[int, tuple[float, float, float, float]]:
    parts = line.split()
    try:
        label, (cx, cy, w, h) = int(parts[0]), (float(part) for part in parts[1:])
        if not all(-FARTHEST <= share <= FARTHEST for share in (cx, cy, w, h)) or not 0 <= label < classes:
            raise ValueError
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{path}:{number}: '{printable(line, 60)}' is no object of {classes} classes",
            "expected: class cx cy width height",
        ) from error
    return label, (cx, cy, w, h)
