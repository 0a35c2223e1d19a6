"""The table of formats: which label types each can give, how a folder of it is known, who reads and writes it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.dataset import Dataset, LabelType
from nanocv_cli.data.formats import class_folders, coco, coco_masks, mask_folders, pascal_voc, shards, yolo
from nanocv_cli.data.labels.base import ClassLabel, Label
from nanocv_cli.data.labels.boxes import Boxes
from nanocv_cli.data.labels.masks import Mask
from nanocv_cli.errors import DataError, RequestError
from nanocv_cli.images.remote_files import is_remote
from nanocv_cli.rooms import broken, entered_readers, part

AUTO, CLASS_FOLDERS = "auto", "class_folders"


@dataclass(frozen=True)
class Reader:
    """One way to read a folder.

    Attributes:
        format: its name, as `data.format` has it.
        label: the type of label that it gives.
        find: whether a folder has such labels; what it returns is true where it has.
        read: the set.
        layout: what such a folder holds, for people.
    """

    format: str
    label: type[Label]
    find: Callable[[Path], object]
    read: Callable[[DataConfig, Path], Dataset[Any]]
    layout: str


READERS = [
    Reader("coco", Boxes, coco.find_documents, coco.read_coco, "COCO JSON (annotations/train.json)"),
    Reader("pascal_voc", Boxes, pascal_voc.find_annotations, pascal_voc.read_pascal_voc,
           "Pascal VOC XML (Annotations/)"),
    Reader("yolo", Boxes, yolo.find_folders, yolo.read_yolo, "YOLO txt (labels/)"),
    Reader("masks", Mask, mask_folders.find_folders, mask_folders.read_mask_folders,
           "images/ and masks/ side by side"),
    Reader(shards.SHARDS, ClassLabel, shards.find_shards, shards.read_shards, shards.LAYOUT),
    Reader("coco", Mask, coco.find_documents, coco_masks.read_coco_masks, "COCO JSON with polygons or RLE"),
]  # fmt: skip
# They may carry boxes and masks beside them, as the set that nanocv draws does.
CLASS_FOLDER_READERS = [
    Reader(CLASS_FOLDERS, ClassLabel, Path.exists, class_folders.read_class_folders, "a folder for each class"),
    Reader(CLASS_FOLDERS, Boxes, coco.find_documents, coco.read_coco, "COCO JSON beside class folders"),
    Reader(CLASS_FOLDERS, Mask, mask_folders.find_folders, mask_folders.read_mask_folders,
           "masks/ beside class folders"),
]  # fmt: skip
WRITERS = {"coco": coco.write_coco, "pascal_voc": pascal_voc.write_pascal_voc, "yolo": yolo.write_yolo}


def readers() -> list[Reader]:
    """All readers, in the order in which `auto` asks whose labels a folder has; it is class folders if nothing else.

    Raises:
        ModelError: a package that brings a format is broken.
    """
    entered = []
    for task, name, path in entered_readers():
        reader = part(task, path)
        if not isinstance(reader, Reader) or reader.format != name:
            raise broken(task, f"{path} is no Reader of the format {name}", "see nanocv_cli/data/formats/table.py")
        entered.append(reader)
    return [*READERS, *entered, *CLASS_FOLDER_READERS]


def guess_format(root: Path) -> str:
    """The first format whose labels a folder has; `class_folders` where there is no such folder."""
    return next((reader.format for reader in readers() if reader.find(root)), CLASS_FOLDERS)


def stated_format(root: Path) -> str:
    """What the config of a folder says of its format: `auto` where class folders carry other labels beside them."""
    guessed = guess_format(root)
    return guessed if guessed == CLASS_FOLDERS or not class_folders.find_classes(root) else AUTO


def read_labels(config: DataConfig, root: Path) -> Dataset[Any]:
    """Reads a set with the labels that its format is first of all for; `auto` looks which format it has.

    Raises:
        DataError: it is not there, or cannot be read.
    """
    name = guess_format(root) if config.format == AUTO else config.format
    return _read(next(reader for reader in readers() if reader.format == name), config, root)


def read_as(label: type[LabelType], config: DataConfig, root: Path) -> Dataset[LabelType]:
    """Reads a set with labels of one type, in the format that its config names; `auto` looks for one that has them.

    Args:
        label: the type.
        config: of the set.
        root: folder of the set.

    Raises:
        RequestError: the format that the config names holds no such labels.
        DataError: the set is not there, has no such labels, or they cannot be read.
    """
    with_label = [reader for reader in readers() if reader.label is label]
    able = with_label
    if config.format != AUTO:
        able = [reader for reader in with_label if reader.format == config.format]
        if not able:
            names = dict.fromkeys(reader.format for reader in with_label)
            raise RequestError(
                f"data set {config.name} has data.format {config.format}, which holds no {label.plural}",
                f"{label.plural} are in {', '.join(names)}; --set data.format=auto looks for them",
            )
    _expect_folder(config, root)
    # What lies at a URL is not looked at to find out what it is.
    reader = able[0] if is_remote(config.path) else next((reader for reader in able if reader.find(root)), None)
    if reader is None:
        layouts = " or ".join(reader.layout for reader in able)
        raise DataError(f"data set {config.name} has no {label.plural} under {root}", f"expected {layouts}")
    return _read(reader, config, root)


def _read(reader: Reader, config: DataConfig, root: Path) -> Dataset[Any]:
    _expect_folder(config, root)
    dataset = replace(reader.read(config, root), cache_gb=config.cache_gb)
    if not reader.label.is_opened and not any(sample.label.classes() for sample in dataset.split("train")):
        raise DataError(f"data set {config.name} has no {reader.label.plural} in its train split", "nanocv data check")
    return dataset


def _expect_folder(config: DataConfig, root: Path) -> None:
    if not is_remote(config.path) and not root.is_dir():
        raise DataError(f"data set {config.name}: no folder {root}", f"nanocv data pull {config.name}")
