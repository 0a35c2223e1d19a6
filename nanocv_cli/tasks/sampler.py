"""What a room offers whose models make images: one sampler, whatever runs the model. No torch."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.engine.card import ModelCard

Images = NDArray[np.uint8]


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

    @property
    def solver(self) -> str:
        """The method's name, as a model's config has it."""
        return "heun" if self.heun else "euler"


class Sampler(ABC):
    """A model that makes images.

    Attributes:
        card: the model card.
    """

    card: ModelCard

    @abstractmethod
    def settings(self, steps: int | None, guidance: float | None, solver: str | None) -> SamplingSettings:
        """The model's own settings, but for what is not None.

        Args:
            steps: 1..1000.
            guidance: 0..100.
            solver: `heun` or `euler`.

        Raises:
            ModelError: the card tells of no settings.
        """

    @abstractmethod
    def samples(
        self, labels: list[int], count: int, seed: int, settings: SamplingSettings, batch_size: int
    ) -> Iterator[tuple[int, int, Images]]:
        """Yields (label, number of the first, images uint8 [n,S,S,3]) batch by batch, `count` of each label.

        Image k of a seed begins with the same noise whatever its class, the batch size and the engine.

        Args:
            labels: class indices.
            count: of each.
            seed: of the noise.
            settings: from noise to images.
            batch_size: images at a time.

        Raises:
            ModelError: the model fails.
            RequestError: what runs it knows the model's own settings alone, as a server does.
        """

    @abstractmethod
    def trajectory(self, label: int, seed: int, settings: SamplingSettings) -> Images:
        """The first image of a seed on its way from noise, uint8 [frames,S,S,3].

        Args:
            label: class index.
            seed: of the noise.
            settings: all of it.

        Raises:
            ModelError, RequestError: as `samples`.
        """
