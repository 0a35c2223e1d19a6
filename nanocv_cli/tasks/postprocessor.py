"""What a task's room must offer those who read a graph's answers to images. No torch."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.engine.card import ModelCard


class Result(Protocol):
    """What one image's answer can do."""

    def to_json(self) -> dict[str, Any]:
        """The task's keys of the JSON line."""

    def to_text(self) -> str:
        """One line for people."""

    def attached(self) -> dict[str, NDArray[np.uint8]]:
        """Images beside the annotated one, by the key that the JSON line names their files under."""


class Postprocessor(Protocol):
    """Turns a graph's outputs into results, and results into drawings: a module with these."""

    TOP: int  # most answers per image, where the user names no number
    ANSWERS_PIXELS: bool  # outputs are [N,S,S], so that an image can be answered in tiles

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], card: ModelCard, top: int, sizes: Sequence[tuple[int, int]]
    ) -> list[Result]:
        """One result per image from the graph's outputs by name.

        Args:
            outputs: of the graph.
            card: the model's.
            top: most answers of each image.
            sizes: width and height of each original image, pixels.
        """

    def draw(self, image: NDArray[np.uint8], result: Result, card: ModelCard) -> NDArray[np.uint8]:
        """The image uint8 [H,W,3] with the result drawn on it, same size."""
