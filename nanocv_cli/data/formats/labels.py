"""A set with whatever labels its format has: class folders, or boxes."""

from pathlib import Path
from typing import Any

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.dataset import Dataset
from nanocv_cli.data.formats.class_folders import read_class_folders
from nanocv_cli.data.formats.detect import CLASS_FOLDERS, detect_format, read_boxes


def read_labels(config: DataConfig, root: Path) -> Dataset[Any]:
    """Reads a set by its format; `auto` looks.

    Raises:
        DataError: it cannot be read.
    """
    form = config.format
    if form == "auto":
        form = detect_format(root) if root.is_dir() else CLASS_FOLDERS  # type: ignore[assignment]
    return read_class_folders(config, root) if form == CLASS_FOLDERS else read_boxes(config, root)
