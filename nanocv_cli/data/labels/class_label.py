"""The label of an image that shows one class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.data.labels.base import Label


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
