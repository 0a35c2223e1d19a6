"""One picture's answer beside its labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# How many of the worst pictures are kept and drawn.
SHOWN = 6


@dataclass(frozen=True)
class Judged:
    """One picture's answer beside its labels.

    Attributes:
        number: of the picture in its split.
        right: share of its labelled pixels that are right.
        truth: labels uint8 [S,S] with `data.masks.IGNORED`.
        answer: class indices uint8 [S,S].
    """

    number: int
    right: float
    truth: NDArray[np.uint8]
    answer: NDArray[np.uint8]
