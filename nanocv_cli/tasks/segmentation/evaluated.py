"""One image's answer beside its labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# How many of the worst images are kept and drawn.
SHOWN = 6


@dataclass(frozen=True)
class Evaluated:
    """One image's answer beside its labels.

    Attributes:
        number: of the image in its split.
        right: share of its labelled pixels that are right.
        truth: labels uint8 [S,S] with `data.labels.masks.IGNORED`.
        answer: class indices uint8 [S,S].
    """

    number: int
    right: float
    truth: NDArray[np.uint8]
    answer: NDArray[np.uint8]
