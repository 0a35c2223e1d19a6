"""The table of tasks on the reading side: what a graph's outputs mean, without torch."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.errors import ModelError

READERS = {
    "classification": "nanocv_cli.tasks.classification.postprocess",
    "detection": "nanocv_cli.tasks.detection.postprocess",
    "segmentation": "nanocv_cli.tasks.segmentation.postprocess",
}


class Result(Protocol):
    """What one image's answer can do."""

    def to_json(self) -> dict[str, Any]:
        """The task's keys of the JSON line."""

    def to_text(self) -> str:
        """One line for people."""

    def attached(self) -> dict[str, NDArray[np.uint8]]:
        """Images beside the annotated one, by the key that the JSON line names their files under."""


class Reader(Protocol):
    """A task's reader: a module with these."""

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


def reader_for(task: str) -> Reader:
    """The reader of a card's task, imported when it is first asked for.

    Raises:
        ModelError: this nanocv has no such task.
    """
    if task not in READERS:
        raise ModelError(
            f"the model's task is {task!r}, which this nanocv does not know", "use the version that wrote it"
        )
    return cast(Reader, importlib.import_module(READERS[task]))
