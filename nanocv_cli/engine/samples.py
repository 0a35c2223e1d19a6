"""Many images from one sampler, and the way of a single one."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.engine.noise import image_noise
from nanocv_cli.engine.sampling import Sampler, SamplingSettings

Images = NDArray[np.uint8]

FRAMES = 9  # of a trajectory: noise, seven on the way, the image


def samples(
    sample: Sampler, size: int, labels: list[int], count: int, seed: int, settings: SamplingSettings, batch_size: int
) -> Iterator[tuple[int, int, Images]]:
    """Yields (label, number of the first, images uint8 [n,S,S,3]) batch by batch, `count` of each label.

    Image k of a seed begins with the same noise whatever its class, the batch size and the engine.

    Args:
        sample: the model.
        size: side of its images.
        labels: class indices.
        count: of each.
        seed: of the noise.
        settings: from noise to images.
        batch_size: images at a time.
    """
    for label in labels:
        for first in range(0, count, batch_size):
            many = min(batch_size, count - first)
            yield label, first, sample(image_noise(seed, first, many, size), np.full(many, label), settings)


def trajectory(sample: Sampler, size: int, label: int, seed: int, settings: SamplingSettings) -> Images:
    """The first image of a seed on its way from noise, uint8 [frames,S,S,3].

    Args:
        sample: the model.
        size: side of its images.
        label: class index.
        seed: of the noise.
        settings: all of it.
    """
    noise = image_noise(seed, 0, 1, size)
    # After how many evaluations each step is done: Heun's takes two, but for the last.
    ends = [
        0,
        *(min(2 * step, 2 * settings.steps - 1) if settings.heun else step for step in range(1, settings.steps + 1)),
    ]
    shown = np.unique(np.linspace(0, settings.steps, min(FRAMES, settings.steps + 1)).round().astype(int))
    return np.concatenate(
        [sample(noise, np.array([label]), replace(settings, evaluations=ends[step])) for step in shown]
    )
