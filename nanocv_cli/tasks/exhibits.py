"""What an evaluator has to show beside its figures, in forms that whoever draws them need not understand. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Matrix:
    """How often each class was answered for each.

    Attributes:
        title: what is counted.
        names: of the classes.
        counts: int64 [classes, classes]; rows are true classes, columns answers.
        are_many: whether counts are too large to be read, so that shares of their row stand for them.
    """

    title: str
    names: tuple[str, ...]
    counts: NDArray[np.int64]
    are_many: bool = False


@dataclass(frozen=True)
class Curve:
    """A named line: float64 [n] across, rising, and [n] up."""

    name: str
    across: NDArray[np.float64]
    up: NDArray[np.float64]


@dataclass(frozen=True)
class Curves:
    """Lines over one axis.

    Attributes:
        title: what they show.
        across: name of the horizontal axis.
        up: name of the vertical axis; values are shares 0..1.
        curves: the lines.
    """

    title: str
    across: str
    up: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Captioned:
    """An image uint8 [H,W,3] with the lines that stand below it."""

    image: NDArray[np.uint8]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Gallery:
    """Images under a title.

    Attributes:
        title: what they are.
        images: the first is to be seen first.
        are_mistakes: whether they show what the model got wrong.
        parts: what stands side by side in each, from left to right; empty where it is one image.
        colours: what is drawn on them, by name, in `#rrggbb`.
    """

    title: str
    images: tuple[Captioned, ...]
    are_mistakes: bool = False
    parts: tuple[str, ...] = ()
    colours: tuple[tuple[str, str], ...] = ()


def side_by_side(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Images uint8 [S,S,3] as one, a white gap between two."""
    gap = np.full((images[0].shape[0], max(1, images[0].shape[0] // 32), 3), 255, np.uint8)
    parts = [part for image in images for part in (gap, image)][1:]
    return np.concatenate(parts, 1)


@dataclass(frozen=True)
class Exhibits:
    """All that one evaluator has to show."""

    matrices: tuple[Matrix, ...] = ()
    curves: tuple[Curves, ...] = ()
    galleries: tuple[Gallery, ...] = ()
