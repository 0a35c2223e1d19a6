"""What every format reader returns: images with their labels, by split, and the class names.

Also what a class may be called: names come from folders and documents, and go into file names, configs and cards.
"""

import hashlib
import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.config.schema import CACHE_GB
from nanocv_cli.data.labels.base import Label
from nanocv_cli.data.listing import AT_ONCE, Listing, Part
from nanocv_cli.errors import DataError, RequestError
from nanocv_cli.untrusted import is_one_line, printable

LabelType = TypeVar("LabelType", bound=Label)

SPLITS = ("train", "val", "test")
SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

LONGEST_NAME = 200  # characters
# The largest sets in common use have 22,000.
MOST_CLASSES = 50_000


@dataclass(frozen=True)
class Sample(Generic[LabelType]):
    """One image and its label.

    Attributes:
        path: of its file; of one in a shard, the shard's and its name there.
        label: of it.
        part: what it is read from in place of a file.
    """

    path: Path
    label: LabelType
    part: Part | None = None

    def image(self) -> Path | bytes:
        """What is opened as the image: its file, or its bytes.

        Raises:
            DataError: the shard that it is a part of cannot be read.
        """
        return self.part.read() if self.part else self.path


class Samples(Sequence[Sample[LabelType]]):
    """Many of them, without an object for each until it is asked for.

    Args:
        paths: of the images.
        labels: of them; images of a class may share one.
    """

    def __init__(self, paths: Listing, labels: tuple[LabelType, ...]) -> None:
        self.paths, self.labels = paths, labels

    @classmethod
    def of(cls, samples: Sequence[Sample[LabelType]]) -> "Samples[LabelType]":
        """Samples as such."""
        if isinstance(samples, Samples):
            return samples
        return cls(Listing.of_paths(sample.path for sample in samples), tuple(sample.label for sample in samples))

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, place: int) -> Sample[LabelType]: ...
    @overload
    def __getitem__(self, place: slice) -> "Samples[LabelType]": ...
    def __getitem__(self, place: int | slice) -> "Sample[LabelType] | Samples[LabelType]":
        if isinstance(place, slice):
            return Samples(self.paths[place], self.labels[place])
        return Sample(self.paths[place], self.labels[place], self.paths.part(place))

    def __iter__(self) -> Iterator[Sample[LabelType]]:
        return map(Sample, self.paths, self.labels, map(self.paths.part, range(len(self))))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Samples) and len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def take(self, places: NDArray[np.int64]) -> "Samples[LabelType]":
        """Those at some places, in that order."""
        return Samples(self.paths.take(places), tuple(self.labels[place] for place in places.tolist()))

    def renumbered(self, numbers: Sequence[int]) -> "Samples[Any]":
        """The same with class `numbers[n]` in place of class `n`; images that shared a label do so still."""
        made = {id(label): label.remap(numbers) for label in {id(label): label for label in self.labels}.values()}
        return Samples(self.paths, tuple(made[id(label)] for label in self.labels))


Splits = Mapping[str, Sequence[Sample[LabelType]]]


@dataclass(frozen=True)
class Dataset(Generic[LabelType]):
    """A set of labelled images.

    Attributes:
        name: the data config's name.
        root: the folder of the set; what lies under it may be links.
        classes: class names in label order.
        splits: samples by split name; every set has `train` and `val`, some have `test`.
        notes: what the reader had to decide or pass over, one line each, for the user.
        cache_gb: of decoded images that may be kept, in the whole cache, GB.

    Raises:
        DataError: a class has no usable name; see `class_names`.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    splits: Splits[LabelType]
    notes: tuple[str, ...] = ()
    cache_gb: float = CACHE_GB

    def __post_init__(self) -> None:
        class_names(self.classes, f"data set {self.name}")
        compact = {name: Samples.of(samples) for name, samples in self.splits.items()}
        object.__setattr__(self, "splits", compact)

    @property
    def held_out(self) -> str:
        """The split that final figures are measured on: test where there is one, else val."""
        return "test" if self.splits.get("test") else "val"

    def split(self, name: str) -> Samples[LabelType]:
        """The samples of one split.

        Raises:
            DataError: the set has no such split, or it is empty.
        """
        samples = self.splits.get(name, ())
        if not samples:
            present = ", ".join(split for split in SPLITS if self.splits.get(split))
            raise DataError(f"data set {self.name} has no images in split {name}", f"it has: {present or 'none'}")
        return Samples.of(samples)

    def fingerprint(self) -> str:
        """A hash of class names, file names and labels by split; a resumed run must find the same one.

        Names are those that the set gives its files, wherever links among them lead.
        """
        digest = hashlib.sha256(repr(self.classes).encode())
        for split in SPLITS:
            samples = Samples.of(self.splits.get(split, ()))
            before = f"{split}\0".encode()
            lines = (
                b"%b%b\0%b\n" % (before, name, label.identity().encode(errors="surrogateescape"))
                for name, label in zip(samples.paths.names_in(self.root), samples.labels, strict=True)
            )
            while part := b"".join(islice(lines, AT_ONCE)):
                digest.update(part)
        return digest.hexdigest()[:16]


def expect_split(dataset: Dataset[Any], name: str) -> None:
    """Makes sure that a set has the split that was asked for.

    Raises:
        RequestError: it has not.
    """
    if not dataset.splits.get(name):
        present = ", ".join(split for split, samples in dataset.splits.items() if samples)
        raise RequestError(f"data set {dataset.name} has no split {printable(name)!r}", f"it has: {present}")


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
