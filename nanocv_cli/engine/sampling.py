"""Images from noise by an exported graph."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.engine import EXPORT_AGAIN, NOISE, Engine
from nanocv_cli.errors import ModelError, RequestError

MOST_STEPS, MOST_GUIDANCE = 1000, 100.0  # as in a model's config
LABEL, STEPS, GUIDANCE, HEUN, EVALUATIONS = "label", "steps", "guidance", "heun", "evaluations"


@dataclass(frozen=True)
class SamplingSettings:
    """How to get from noise to images.

    Attributes:
        steps: of the method.
        guidance: 1 follows the class alone, more goes further away from what has no class.
        heun: Heun's method, else Euler's.
        evaluations: stop after so many of the network's evaluations; None goes all the way.
    """

    steps: int
    guidance: float
    heun: bool
    evaluations: int | None = None

    @classmethod
    def resolve(
        cls, card: ModelCard, steps: int | None, guidance: float | None, solver: str | None
    ) -> "SamplingSettings":
        """A model's own settings, but for what is not None.

        Raises:
            ModelError: the card tells of no settings.
        """
        try:
            own = card.config["model"]["sampling"]
            settings = cls(
                int(own["steps"] if steps is None else steps),
                float(own["guidance"] if guidance is None else guidance),
                (own["solver"] if solver is None else solver) == "heun",
            )
            if not (1 <= settings.steps <= MOST_STEPS and 0.0 <= settings.guidance <= MOST_GUIDANCE):
                raise ValueError("out of bounds")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelError(f"{card.name}: its model card names no sampling", EXPORT_AGAIN) from error
        return settings


class Sampler(Protocol):
    """A generative model, whatever runs it."""

    card: ModelCard

    def __call__(
        self, noise: NDArray[np.float32], label: NDArray[np.int64], settings: SamplingSettings
    ) -> NDArray[np.uint8]:
        """Images of classes, from noise.

        Args:
            noise: standard normal float32 [N,3,S,S].
            label: class indices int64 [N].
            settings: how to get there.

        Returns:
            uint8 [N,S,S,3].
        """


class GraphSampler:
    """A generative model's exported graph.

    Args:
        graph: opened.

    Raises:
        ModelError: it is no generative model.
    """

    def __init__(self, graph: Engine) -> None:
        self._graph = graph
        self.card = graph.card
        names = [tensor.name for tensor in self._graph.signature.inputs]
        if names != [NOISE, LABEL]:
            raise not_generative(self.card.name, self.card.task)

    def __call__(
        self, noise: NDArray[np.float32], label: NDArray[np.int64], settings: SamplingSettings
    ) -> NDArray[np.uint8]:
        """See `Sampler`.

        Raises:
            ModelError: the graph fails.
            RequestError: it is served, and a server knows the model's own settings alone.
        """
        if not self._graph.has_settings:
            if settings != SamplingSettings.resolve(self.card, None, None, None):
                raise RequestError(
                    f"{self._graph.origin} makes images by the model's own steps, guidance and solver alone",
                    "leave --steps, --guidance, --solver and --trajectory out, or name the model's file",
                )
            return self._graph.answer({NOISE: noise, LABEL: label})["image"]
        given: dict[str, NDArray[Any]] = {
            STEPS: np.array(settings.steps, np.int64),
            GUIDANCE: np.array(settings.guidance, np.float32),
            HEUN: np.array(settings.heun),
        }
        if settings.evaluations is not None:
            given[EVALUATIONS] = np.array(settings.evaluations, np.int64)
        images: NDArray[np.uint8] = self._graph.answer({NOISE: noise, LABEL: label, **given})["image"]
        return images


def not_generative(name: str, task: str) -> ModelError:
    """The error of asking a model that reads images for new ones."""
    return ModelError(f"{name} is a {task} model: it makes no images", "nanocv infer IMAGES --model REF")
