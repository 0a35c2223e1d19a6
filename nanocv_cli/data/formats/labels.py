"""A set with whatever labels its format has: class folders, boxes, or masks."""

from pathlib import Path
from typing import Any

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.dataset import Dataset
from nanocv_cli.data.formats import mask_folders
from nanocv_cli.data.formats.class_folders import read_class_folders
from nanocv_cli.data.formats.coco import find_documents
from nanocv_cli.data.formats.coco_masks import read_coco_masks
from nanocv_cli.data.formats.guess_format import CLASS_FOLDERS, MASKS, guess_format, read_boxes
from nanocv_cli.data.masks import Mask
from nanocv_cli.errors import DataError


def read_masks(config: DataConfig, root: Path) -> Dataset[Mask]:
    """Reads a set of masks in whatever format it has; a set of another format may carry `masks/` too.

    Raises:
        DataError: it has no masks, or they cannot be read.
    """
    if not root.is_dir():
        raise DataError(f"data set {config.name}: no folder {root}", f"nanocv data pull {config.name}")
    if mask_folders.find_folders(root):
        return mask_folders.read_mask_folders(config, root)
    if find_documents(root):
        return read_coco_masks(config, root)
    raise DataError(
        f"data set {config.name} has no masks under {root}",
        "segmentation reads images/ and masks/ side by side, or COCO JSON with polygons or RLE",
    )


def read_labels(config: DataConfig, root: Path) -> Dataset[Any]:
    """Reads a set by its format; `auto` looks.

    Raises:
        DataError: it cannot be read.
    """
    form = config.format
    if form == "auto":
        form = guess_format(root) if root.is_dir() else CLASS_FOLDERS  # type: ignore[assignment]
    if form == MASKS:
        return read_masks(config, root)
    return read_class_folders(config, root) if form == CLASS_FOLDERS else read_boxes(config, root)
