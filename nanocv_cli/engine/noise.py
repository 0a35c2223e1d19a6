"""What a sampler starts from: the same numbers for the same seed, on every machine and in front of every engine."""

import numpy as np
from numpy.typing import NDArray


def image_noise(seed: int, first: int, count: int, size: int) -> NDArray[np.float32]:
    """Standard normal noise of images `first` to `first + count` of a seed; each has its own, whatever the count.

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
