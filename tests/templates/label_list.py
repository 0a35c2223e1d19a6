"""A list of labels: `labels.csv` with a line `split,file,class` for each image, files as seen from its folder."""

from pathlib import Path

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.dataset import Dataset, Sample, class_names
from nanocv_cli.data.labels.base import ClassLabel
from nanocv_cli.foreign import read_text


def find_list(root: Path) -> bool:
    """Whether a folder has such a list."""
    return (root / "labels.csv").is_file()


def read_list(config: DataConfig, root: Path) -> Dataset[ClassLabel]:
    """Reads the list; images are not opened.

    Raises:
        DataError: it cannot be read.
    """
    rows = [line.split(",") for line in read_text(root / "labels.csv").splitlines()]
    classes = class_names(config.classes or sorted({name for _, _, name in rows}), root)
    splits = {
        split: tuple(Sample(root / file, ClassLabel(classes.index(name))) for its, file, name in rows if its == split)
        for split in ("train", "val")
    }
    return Dataset(config.name, root, classes, splits)
