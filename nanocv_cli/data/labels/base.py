"""What every type of label can do: check itself, be drawn, say which classes it shows, take other class numbers.

`ClassLabel`, that of an image that shows one class, has little to add.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Problem:
    """One thing to know about a set.

    Attributes:
        level: `error` (training would fail or be misled) or `warning`.
        kind: unreadable, leak, conflict, duplicate, small, stray, imbalance or note; or a kind of the label's own,
            such as no_area of boxes.
        message: one line.
        paths: the files concerned.
    """

    level: str
    kind: str
    message: str
    paths: tuple[str, ...] = ()


class Label(ABC):
    """What is known of one image; a type of label is a subclass, and nobody else asks which one it is.

    The defaults are those of a label that is at hand as a whole and cannot be wrong.

    Attributes:
        plural: of the type's name, for messages: `boxes`.
        resize: how an image becomes the square that `draw` draws on (see `images/resize.py`).
        is_opened: whether a file has to be opened to see what the label says, so that not all are looked at.
    """

    plural: ClassVar[str]
    resize: ClassVar[str] = "stretch"
    is_opened: ClassVar[bool] = False

    def check(self, split: str, path: Path, size: tuple[int, int]) -> Iterator[Problem]:
        """What is wrong with it.

        Args:
            split: that the image is in, for messages.
            path: of the image, for messages.
            size: width and height of the image's file, pixels.
        """
        return iter(())

    def tally(self) -> Mapping[tuple[str, str], int]:
        """What is no mistake but good to know of a split: how often this label has it, by kind and text of the finding.

        Every label of a type names the same ones in the same order, with 0 for those that it has not.
        """
        return {}

    def identity(self) -> str:
        """Changes whenever the label does: a part of the set's fingerprint, which a resumed run must find again."""
        return repr(self)

    def content(self) -> str:
        """What it says, whatever file it stands in: copies of an image under labels of other content are a conflict."""
        return self.identity()

    @abstractmethod
    def classes(self) -> set[int]:
        """The class numbers that the image is shown under; empty where it cannot be read."""

    @abstractmethod
    def draw(self, image: NDArray[np.uint8], names: tuple[str, ...]) -> NDArray[np.uint8]:
        """The image with the label drawn on it.

        Args:
            image: uint8 [S,S,3], made from the original by `resize`.
            names: of the classes, in label order.

        Returns:
            uint8 [S,S,3].

        Raises:
            DataError: the label cannot be read.
        """

    @abstractmethod
    def remap(self, numbers: Sequence[int]) -> Self | "Label":
        """The same label with class `numbers[n]` in place of class `n`."""


@dataclass(frozen=True)
class ClassLabel(Label):
    """The class of a whole image.

    Attributes:
        index: of the class, from 0.
    """

    plural = "class labels"
    resize = "crop"

    index: int

    def identity(self) -> str:
        """The number alone."""
        return str(self.index)

    def classes(self) -> set[int]:
        """The one."""
        return {self.index}

    def draw(self, image: NDArray[np.uint8], names: tuple[str, ...]) -> NDArray[np.uint8]:
        """The image as it is: nothing in it has a place."""
        return image

    def remap(self, numbers: Sequence[int]) -> "ClassLabel":
        """See `Label`."""
        return ClassLabel(numbers[self.index])
