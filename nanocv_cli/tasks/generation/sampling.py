"""Images from noise: what they start from, in batches, on their way; and by an exported graph. No torch."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.engine.engine import EXPORT_AGAIN, Engine
from nanocv_cli.errors import ModelError, RequestError
from nanocv_cli.tasks.sampler import Images, Sampler, SamplingSettings

MOST_STEPS, MOST_GUIDANCE = 1000, 100.0  # as in a model's config
NOISE, LABEL = "noise", "label"
STEPS, GUIDANCE, HEUN, EVALUATIONS = "steps", "guidance", "heun", "evaluations"

FRAMES = 9  # of a trajectory: noise, seven on the way, the image


def image_noise(seed: int, first: int, count: int, size: int) -> NDArray[np.float32]:
    """Standard normal noise of images `first` to `first + count` of a seed; each has its own, whatever the count.

    The same numbers for the same seed, on every machine and in front of every engine.

    Args:
        seed: from 0.
        first: number of the first image.
        count: of images.
        size: side, pixels.

    Returns:
        float32 [count,3,size,size].
    """
    noise = np.empty((count, 3, size, size), np.float32)
    for row in range(count):
        generator = np.random.Generator(np.random.PCG64([seed, first + row]))
        noise[row] = generator.standard_normal((3, size, size), np.float32)
    return noise


class FlowSampler(Sampler):
    """What samplers by a graph and by a checkpoint share; see `tasks.sampler.Sampler` for what each method promises."""

    @abstractmethod
    def make(self, noise: NDArray[np.float32], label: NDArray[np.int64], settings: SamplingSettings) -> Images:
        """Images of classes, from noise.

        Args:
            noise: standard normal float32 [N,3,S,S].
            label: class indices int64 [N].
            settings: how to get there.

        Returns:
            uint8 [N,S,S,3].
        """

    def settings(
        self, steps: int | None = None, guidance: float | None = None, solver: str | None = None
    ) -> SamplingSettings:
        try:
            own = self.card.config["model"]["sampling"]
            settings = SamplingSettings(
                int(own["steps"] if steps is None else steps),
                float(own["guidance"] if guidance is None else guidance),
                (own["solver"] if solver is None else solver) == "heun",
            )
            if not (1 <= settings.steps <= MOST_STEPS and 0.0 <= settings.guidance <= MOST_GUIDANCE):
                raise ValueError("out of bounds")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelError(f"{self.card.name}: its model card names no sampling", EXPORT_AGAIN) from error
        return settings

    def samples(
        self, labels: list[int], count: int, seed: int, settings: SamplingSettings, batch_size: int
    ) -> Iterator[tuple[int, int, Images]]:
        for label in labels:
            for first in range(0, count, batch_size):
                many = min(batch_size, count - first)
                noise = image_noise(seed, first, many, self.card.input_size)
                yield label, first, self.make(noise, np.full(many, label), settings)

    def trajectory(self, label: int, seed: int, settings: SamplingSettings) -> Images:
        noise = image_noise(seed, 0, 1, self.card.input_size)
        steps, heun = settings.steps, settings.heun
        # After how many evaluations each step is done: Heun's takes two, but for the last.
        ends = [0, *(min(2 * step, 2 * steps - 1) if heun else step for step in range(1, steps + 1))]
        shown = np.unique(np.linspace(0, steps, min(FRAMES, steps + 1)).round().astype(int))
        return np.concatenate(
            [self.make(noise, np.array([label]), replace(settings, evaluations=ends[step])) for step in shown]
        )


class GraphSampler(FlowSampler):
    """A generative model's exported graph.

    Args:
        graph: opened.

    Raises:
        ModelError: it takes something else than noise and labels.
    """

    def __init__(self, graph: Engine) -> None:
        self._graph = graph
        self.card = graph.card
        if [tensor.name for tensor in graph.signature.inputs] != [NOISE, LABEL]:
            raise ModelError(f"{graph.origin} makes no images: it does not take {NOISE} and {LABEL}", EXPORT_AGAIN)

    def make(self, noise: NDArray[np.float32], label: NDArray[np.int64], settings: SamplingSettings) -> Images:
        """See `FlowSampler`.

        Raises:
            ModelError: the graph fails.
            RequestError: whoever runs it is asked for the model's own settings alone, as a server is.
        """
        if not self._graph.has_settings:
            if settings != self.settings():
                raise RequestError(
                    f"{self._graph.origin} ({self._graph.runtime}) is asked for images by the model's own steps, "
                    "guidance and solver alone",
                    "leave --steps, --guidance, --solver and --trajectory out, or name the model's file and "
                    "--engine onnxruntime",
                )
            return self._graph.answer({NOISE: noise, LABEL: label})["image"]
        given: dict[str, NDArray[Any]] = {
            STEPS: np.array(settings.steps, np.int64),
            GUIDANCE: np.array(settings.guidance, np.float32),
            HEUN: np.array(settings.heun),
        }
        if settings.evaluations is not None:
            given[EVALUATIONS] = np.array(settings.evaluations, np.int64)
        return self._graph.answer({NOISE: noise, LABEL: label, **given})["image"]
