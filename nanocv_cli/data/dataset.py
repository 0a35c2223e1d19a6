"""What every format reader returns: images with their labels, by split, and the class names."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from nanocv_cli.data.class_names import class_names
from nanocv_cli.data.labels.base import Label
from nanocv_cli.errors import DataError, RequestError
from nanocv_cli.untrusted import printable

LabelType = TypeVar("LabelType", bound=Label)

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Sample(Generic[LabelType]):
    """One image file and its label."""

    path: Path
    label: LabelType


@dataclass(frozen=True)
class Dataset(Generic[LabelType]):
    """A set of labelled images.

    Attributes:
        name: the data config's name.
        root: the folder of the set; what lies under it may be links.
        classes: class names in label order.
        splits: samples by split name; every set has `train` and `val`, some have `test`.
        notes: what the reader had to decide or pass over, one line each, for the user.

    Raises:
        DataError: a class has no usable name; see `class_names`.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    splits: dict[str, tuple[Sample[LabelType], ...]]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        class_names(self.classes, f"data set {self.name}")

    @property
    def held_out(self) -> str:
        """The split that final figures are measured on: test where there is one, else val."""
        return "test" if self.splits.get("test") else "val"

    def split(self, name: str) -> tuple[Sample[LabelType], ...]:
        """The samples of one split.

        Raises:
            DataError: the set has no such split, or it is empty.
        """
        samples = self.splits.get(name, ())
        if not samples:
            present = ", ".join(split for split in SPLITS if self.splits.get(split))
            raise DataError(f"data set {self.name} has no images in split {name}", f"it has: {present or 'none'}")
        return samples

    def fingerprint(self) -> str:
        """A hash of class names, file names and labels by split; a resumed run must find the same one.

        Names are those that the set gives its files, wherever links among them lead.
        """
        digest = hashlib.sha256(repr(self.classes).encode())
        for split in SPLITS:
            for sample in self.splits.get(split, ()):
                name = _name_in(self.root, sample.path)
                digest.update(f"{split}\0{name}\0{sample.label.identity()}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()[:16]


def expect_split(dataset: Dataset[Any], name: str) -> None:
    """Makes sure that a set has the split that was asked for.

    Raises:
        RequestError: it has not.
    """
    if not dataset.splits.get(name):
        present = ", ".join(split for split, samples in dataset.splits.items() if samples)
        raise RequestError(f"data set {dataset.name} has no split {printable(name)!r}", f"it has: {present}")


def _name_in(root: Path, path: Path) -> str:
    try:
        return str(path.relative_to(root))
    except ValueError:  # an image beside the folder of its labels
        return os.path.relpath(path, root)
