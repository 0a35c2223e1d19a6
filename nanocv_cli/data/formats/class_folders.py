"""Class folders: `root/<class>/*.jpg`, or `root/{train,val,test}/<class>/*.jpg`; an image's folder is its label."""

from collections import Counter
from itertools import chain, repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.dataset import SPLIT_FOLDERS, Dataset, Samples, class_names
from nanocv_cli.data.labels.base import ClassLabel
from nanocv_cli.data.listing import Listing
from nanocv_cli.data.splitting import divide, sizes, split_rule
from nanocv_cli.errors import DataError
from nanocv_cli.folders import runs_below, subfolders
from nanocv_cli.images.resize import SUFFIXES
from nanocv_cli.untrusted import printable

# Of other formats, which may hold images.
OTHER_FOLDERS = {"images", "JPEGImages", "masks", "labels", "annotations", "Annotations", *SPLIT_FOLDERS}


def find_classes(root: Path) -> set[str]:
    """The class folders beside which a set keeps other labels; those of images, masks and so on are none."""
    split_roots = [folder for folder in _folders(root) if folder.name in SPLIT_FOLDERS]
    return {name for folder in split_roots or [root] for name in _images_by_class(folder)} - OTHER_FOLDERS


def read_class_folders(config: DataConfig, root: Path) -> Dataset[ClassLabel]:
    """Reads a set of class folders; images are listed, not opened. Files and folders may be links.

    A set without `train` is split by image content or by name (see `splitting.divide`); one with `train` but no `val`
    gives part of `train` to `val`.

    Args:
        config: the set; `config.classes`, where given, fixes names and their order.
        root: the folder of the images.

    Raises:
        DataError: no such folder, no images, fewer than two classes, or classes that differ from the config's.
    """
    if not root.is_dir():
        raise DataError(f"data set {config.name}: no folder {root}", f"nanocv data pull {config.name}")
    split_roots = {SPLIT_FOLDERS[f.name]: f for f in _folders(root) if f.name in SPLIT_FOLDERS}
    sources = split_roots if "train" in split_roots else {"all": root}
    files = {split: _images_by_class(folder) for split, folder in sources.items()}
    classes = class_names(config.classes or sorted({name for found in files.values() for name in found}), root)
    _check_classes(config, root, classes, files)
    splits = {split: _samples(found, classes) for split, found in files.items()}
    notes = [] if config.classes else _empty_folders(root, sources, classes)
    if "all" in splits:
        whole = splits["all"]
        splits = divide(whole, _by_class(whole), config, root, config.test_fraction)
        notes.append(f"no train/val/test folders: split by {split_rule(config)} into " + sizes(splits))
    elif "val" not in splits:
        divided = divide(splits["train"], _by_class(splits["train"]), config, root, test_fraction=0.0)
        splits |= {"train": divided["train"], "val": divided["val"]}
        notes.append("no val folder: part of train is held out, " + sizes(splits))
    counts = Counter(label.index for label in splits["train"].labels)
    notes += [
        f"class {name} has {counts[label]} training image{'s' if counts[label] != 1 else ''}"
        for label, name in enumerate(classes)
        if counts[label] < 2
    ]
    for split, found in files.items():
        lacking = [name for name in classes if name not in found]
        if lacking and split != "train":
            notes.append(f"{split} has no image of class {printable(', '.join(lacking))}")
    return Dataset(config.name, root, classes, {s: samples for s, samples in splits.items() if samples}, tuple(notes))


def _folders(root: Path) -> list[Path]:
    try:
        return subfolders(root)
    except OSError as error:
        raise DataError(f"{root} cannot be read: {error.strerror}", "check its permissions") from error


def _empty_folders(root: Path, sources: dict[str, Path], classes: tuple[str, ...]) -> list[str]:
    """What is said of folders that look like classes and give none."""
    return [
        f"{printable(str(folder.relative_to(root)))} holds no image, and is no class"
        for source in sources.values()
        for folder in _folders(source)
        if folder.name not in classes and folder.name not in OTHER_FOLDERS
    ]


def _images_by_class(root: Path) -> dict[str, Listing]:
    """Image files by class folder, sub-folders included; folders without an image are no class.

    What bears an image's name and is none (a link to nothing, a pipe) is listed too: whoever opens it says so.
    """
    found = {folder.name: Listing.of(runs_below(folder, SUFFIXES)) for folder in _folders(root)}
    return {name: files for name, files in found.items() if files}


def _check_classes(
    config: DataConfig, root: Path, classes: tuple[str, ...], files: dict[str, dict[str, Listing]]
) -> None:
    present = {name for found in files.values() for name in found}
    if not present:
        raise DataError(
            f"data set {config.name}: no images in class folders under {root}",
            f"expected {root.name}/<class>/*.jpg or {root.name}/train/<class>/*.jpg",
        )
    # The set that nanocv draws keeps masks beside the images; a config that names its classes ignores the rest.
    missing = [name for name in classes if name not in present]
    if missing:
        raise DataError(
            f"data set {config.name}: no images of class {', '.join(missing)} under {root}",
            f"class folders found: {printable(', '.join(sorted(present)))}",
        )
    if len(classes) < 2:
        raise DataError(
            f"data set {config.name} has one class only ({classes[0]}): there is nothing to tell apart",
            "add a second class folder",
        )


def _samples(found: dict[str, Listing], classes: tuple[str, ...]) -> Samples[ClassLabel]:
    by_class = [found.get(name, Listing.of([])) for name in classes]
    labels = (repeat(ClassLabel(label), len(files)) for label, files in enumerate(by_class))
    return Samples(Listing.joined(by_class), tuple(chain.from_iterable(labels)))


def _by_class(samples: Samples[ClassLabel]) -> list[NDArray[np.int64]]:
    """The places of each class's samples."""
    numbers = np.fromiter((label.index for label in samples.labels), np.int64, len(samples))
    return [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
