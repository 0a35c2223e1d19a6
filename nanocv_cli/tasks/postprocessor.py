"""What a task offers those who read a graph's answers to images: typed results and drawings. No torch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.tiles import MergeTiles
from nanocv_cli.errors import ModelError, RequestError


class Result(ABC):
    """What a model says of one image."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The task's keys of the JSON line that `infer` prints."""

    @abstractmethod
    def to_text(self) -> str:
        """One line for people."""

    def attached(self) -> dict[str, NDArray[np.uint8]]:
        """Images beside the annotated one, uint8 [H,W] or [H,W,3], by the key that names their files; none by default.

        The keys are part of file names and of the JSON line.
        """
        return {}


ResultType = TypeVar("ResultType", bound=Result)


class Postprocessor(ABC, Generic[ResultType]):
    """Turns a graph's outputs into results, and results into drawings; made without arguments.

    Attributes:
        top: most answers per image, where the user names no number.
    """

    top: ClassVar[int]

    @abstractmethod
    def postprocess(
        self, outputs: Mapping[str, NDArray[Any]], card: ModelCard, top: int, sizes: Sequence[tuple[int, int]]
    ) -> list[ResultType]:
        """One result per image.

        Args:
            outputs: of the graph by name, [N,...] each, or what `tile_merger` made of them.
            card: the model's.
            top: most answers of each image.
            sizes: width and height of each original image, pixels.

        Raises:
            ModelError: the graph returns what no graph of the task does.
        """

    @abstractmethod
    def draw(self, image: NDArray[np.uint8], result: ResultType, card: ModelCard) -> NDArray[np.uint8]:
        """The image uint8 [H,W,3] with the result drawn on it, same size; the one given stays as it is."""

    def tile_merger(self, card: ModelCard) -> MergeTiles:
        """What puts the answers for an image's tiles together to the outputs of one for all of it.

        By default there is nothing: an answer that is about an image as a whole cannot be had from parts.

        Raises:
            RequestError: answers of this task cannot be put together.
        """
        raise RequestError(
            f"--tile is for models whose answers have a place in the image; {card.name} is a {card.task} model",
            "leave it out",
        )


def expect_finite(card: ModelCard, *outputs: NDArray[Any]) -> None:
    """Lets outputs of a graph pass that hold numbers alone.

    Raises:
        ModelError: one holds NaN or infinity.
    """
    if not all(np.isfinite(values).all() for values in outputs):
        raise ModelError(f"the graph of {card.name} answers NaN or infinity", "train it again, or export it as fp32")


def unexpected_outputs(card: ModelCard, outputs: Mapping[str, NDArray[Any]], wanted: str) -> ModelError:
    """The error of a graph whose outputs are not the task's.

    Args:
        card: the model's.
        outputs: of the graph by name.
        wanted: names and shapes of the task's, in words.
    """
    found = ", ".join(f"{name} {list(values.shape)}" for name, values in outputs.items())
    return ModelError(
        f"the graph of {card.name} returns {found}, not {wanted}", "export it again: nanocv export onnx --model RUN"
    )
