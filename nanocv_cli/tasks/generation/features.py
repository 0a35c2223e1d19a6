"""What images are compared by: a fixed network with seeded random weights, so that no download is needed.

Random convolutional features order generators much as trained ones do (Naeem et al., arXiv:2002.09797, section 4.3);
figures in them are comparable with one another and with nothing else, least of all with Inception's FID.
"""

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

# Changing any of these changes every figure.
SEED = 2002_09797
WIDTHS = (3, 32, 64, 128)
SIZE = 32
BATCH = 256


def features(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean and deviation of each channel after each of three 3x3 stride-2 convolutions with ReLU.

    Weights are normal with deviation sqrt(2 / fan-in), drawn by numpy's PCG64 from `SEED`; images are brought to
    32x32 (area mean) and to -1..1.

    Args:
        images: uint8 [n,S,S,3].

    Returns:
        float64 [n,448].
    """
    generator = np.random.Generator(np.random.PCG64(SEED))
    kernels = [
        torch.from_numpy(generator.standard_normal((wide, narrow, 3, 3)).astype(np.float32) * (2 / (9 * narrow)) ** 0.5)
        for narrow, wide in pairwise(WIDTHS)
    ]
    found = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            batch = torch.from_numpy(np.array(images[start : start + BATCH])).permute(0, 3, 1, 2).float()
            maps = F.adaptive_avg_pool2d(batch, SIZE) / 127.5 - 1.0
            parts = []
            for kernel in kernels:
                maps = F.relu(F.conv2d(maps, kernel, stride=2, padding=1))
                parts += [maps.mean((2, 3)), maps.std((2, 3))]
            found.append(torch.cat(parts, 1).double())
    return torch.cat(found).numpy()
