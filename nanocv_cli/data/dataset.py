"""What every format reader returns: images with their labels, by split, and the class names.

Also what a class may be called (names come from folders and documents, and go into file names, configs and cards), and
how a set that brings no splits is divided: by image content, the same on every machine.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.labels.base import Label
from nanocv_cli.errors import DataError, RequestError
from nanocv_cli.images.image_file import UnreadableImageError, open_image_file
from nanocv_cli.untrusted import is_one_line, printable

LabelType = TypeVar("LabelType", bound=Label)

SPLITS = ("train", "val", "test")
SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

LONGEST_NAME = 200  # characters
# The largest sets in common use have 22,000.
MOST_CLASSES = 50_000


@dataclass(frozen=True)
class Sample(Generic[LabelType]):
    """One image file and its label."""

    path: Path
    label: LabelType


Splits = dict[str, tuple[Sample[LabelType], ...]]


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


def class_names(names: Iterable[str], source: Path | str) -> tuple[str, ...]:
    """The names as they are, each of them one line of text and none twice.

    Args:
        names: in label order.
        source: the file or folder that they stand in, for the message.

    Raises:
        DataError: a name is empty, too long, holds what is no text, or stands twice; or there are too many.
    """
    found = tuple(names)
    if len(found) > MOST_CLASSES:
        raise DataError(f"{source} names {len(found):,} classes", f"nanocv takes up to {MOST_CLASSES:,}")
    for name in found:
        if problem := name_problem(name):
            raise DataError(f"{source}: the class name '{printable(name, 40)}' {problem}", "rename the class")
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise DataError(f"{source}: the class {printable(twice[0], 40)} stands twice", "rename one, or join the two")
    return found


def name_problem(name: str) -> str:
    """Why a text can be no class name; empty where it can."""
    if not name.strip():
        return "is empty"
    if len(name) > LONGEST_NAME:
        return f"has {len(name):,} characters, of {LONGEST_NAME} at most"
    return "" if is_one_line(name) else "holds control characters, or bytes that are no text"


def divide(
    groups: Sequence[Sequence[Sample[LabelType]]], seed: int, val_fraction: float, test_fraction: float
) -> Splits[LabelType]:
    """Splits group by group (class by class, say), ordering each by a hash of seed and content.

    The same images give the same split on any machine, whatever their names; identical copies stay together,
    so no copy leaks from train into val. A group gives val (and test) at least one image once it has enough.
    What cannot be read goes to train, which leaves it out and says so.
    """
    parts: dict[str, list[Sample[LabelType]]] = {"train": [], "val": [], "test": []}
    for group in groups:
        copies: dict[str, list[Sample[LabelType]]] = {}
        for sample in group:
            try:
                copies.setdefault(content_hash(sample.path, str(seed).encode()), []).append(sample)
            except UnreadableImageError:
                parts["train"].append(sample)
        ordered = [copies[key] for key in sorted(copies)]
        n_test = max(1, round(test_fraction * len(ordered))) if test_fraction and len(ordered) >= 3 else 0
        n_val = max(1, round(val_fraction * len(ordered))) if len(ordered) >= 2 else 0
        for position, members in enumerate(ordered):
            part = "test" if position < n_test else "val" if position < n_test + n_val else "train"
            parts[part].extend(members)
    return {part: tuple(members) for part, members in parts.items()}


def complete_splits(splits: Splits[LabelType], config: DataConfig) -> tuple[Splits[LabelType], list[str]]:
    """Gives a set without splits (all in `all`), or without `val`, the ones it lacks, and says so."""
    if "all" in splits:
        divided = divide([splits["all"]], config.split_seed, config.val_fraction, config.test_fraction)
        return divided, [f"no splits: divided by content hash into {sizes(divided)}"]
    if "val" not in splits and "train" in splits:
        divided = divide([splits["train"]], config.split_seed, config.val_fraction, 0.0)
        found = {**splits, "train": divided["train"], "val": divided["val"]}
        return found, [f"no val split: part of train is held out, {sizes(found)}"]
    return splits, []


def sizes(splits: Splits[LabelType]) -> str:
    """`80 train, 20 val`."""
    return ", ".join(f"{len(samples)} {split}" for split, samples in splits.items() if samples)


def content_hash(path: Path, salt: bytes = b"") -> str:
    """SHA-256 of a salt and an image file's bytes, hex; read in blocks.

    Raises:
        UnreadableImageError: it is no regular file, too large for an image, or cannot be read.
    """
    with open_image_file(path) as file:
        try:
            return hashlib.file_digest(file, lambda: hashlib.sha256(salt)).hexdigest()
        except OSError as error:
            raise UnreadableImageError(error.strerror or "cannot be read") from error
