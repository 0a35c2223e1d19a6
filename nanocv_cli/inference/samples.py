"""Many pictures from one sampler, and the way of a single one."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.inference.noise import picture_noise
from nanocv_cli.inference.sampling import Sample, Way

Pictures = NDArray[np.uint8]

FRAMES = 9  # of a trajectory: noise, seven on the way, the picture


def samples(
    sample: Sample, size: int, labels: list[int], count: int, seed: int, way: Way, batch_size: int
) -> Iterator[tuple[int, int, Pictures]]:
    """Yields (label, number of the first, pictures uint8 [n,S,S,3]) batch by batch, `count` of each label.

    Picture k of a seed begins with the same noise whatever its class, the batch size and the engine.

    Args:
        sample: the model.
        size: side of its pictures.
        labels: class indices.
        count: of each.
        seed: of the noise.
        way: from noise to pictures.
        batch_size: pictures at a time.
    """
    for label in labels:
        for first in range(0, count, batch_size):
            many = min(batch_size, count - first)
            yield label, first, sample(picture_noise(seed, first, many, size), np.full(many, label), way)


def trajectory(sample: Sample, size: int, label: int, seed: int, way: Way) -> Pictures:
    """The first picture of a seed on its way from noise, uint8 [frames,S,S,3].

    Args:
        sample: the model.
        size: side of its pictures.
        label: class index.
        seed: of the noise.
        way: all of it.
    """
    noise = picture_noise(seed, 0, 1, size)
    # After how many evaluations each step is done: Heun's takes two, but for the last.
    ends = [0, *(min(2 * step, 2 * way.steps - 1) if way.heun else step for step in range(1, way.steps + 1))]
    shown = np.unique(np.linspace(0, way.steps, min(FRAMES, way.steps + 1)).round().astype(int))
    return np.concatenate([sample(noise, np.array([label]), replace(way, evaluations=ends[step])) for step in shown])
