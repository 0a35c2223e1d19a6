"""What images are compared by: a fixed network with seeded random weights, so that no download is needed, and the
features by which FID is defined, those of one published Inception network, downloaded when asked for.

Random convolutional features order generators much as trained ones do (Naeem et al., arXiv:2002.09797, section 4.3);
figures in them are comparable with one another and with nothing else, least of all with Inception's FID.
"""

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from nanocv_cli.models.checkpoint import published_state

# Changing any of these changes every figure.
SEED = 2002_09797
WIDTHS = (3, 32, 64, 128)
SIZE = 32
BATCH = 256
INCEPTION_BATCH = 32


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


def weights_url() -> str:
    """Where torch-fidelity publishes the network's weights."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    return str(URL_INCEPTION_V3)


def inception_features(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The pooled features of Inception v3 as FID takes them (arXiv:1706.08500), by torch-fidelity.

    Args:
        images: uint8 [n,S,S,3].

    Returns:
        float64 [n,2048].

    Raises:
        ModelError: the weights cannot be had.
        ModuleNotFoundError: the extra `fid` is not installed.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    state = published_state(weights_url(), "Inception's weights for FID", "leave --online out")
    with tempfile.TemporaryDirectory() as folder:
        # torch-fidelity unpickles what it is given without restriction: it is given a file of our own.
        own = Path(folder) / "inception.pth"
        torch.save(state, own)
        network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(own))
    found = []
    with torch.inference_mode():
        for start in range(0, len(images), INCEPTION_BATCH):
            batch = torch.from_numpy(np.array(images[start : start + INCEPTION_BATCH])).permute(0, 3, 1, 2)
            found.append(network(batch)[0].double())
    return torch.cat(found).numpy()
