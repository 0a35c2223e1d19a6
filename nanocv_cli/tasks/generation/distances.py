"""How far a set of samples is from a set of real images: the features they are compared in, and distances in any.

The features are those of a fixed network with seeded random weights, so that no download is needed, and those by which
FID is defined, of one published Inception network, downloaded when asked for. Random convolutional features order
generators much as trained ones do (Naeem et al., arXiv:2002.09797, section 4.3); figures in them are comparable with
one another and with nothing else, least of all with Inception's FID.
"""

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from nanocv_cli.models.published import published_state
from nanocv_cli.tasks.evaluator import ImageRows

Features = NDArray[np.float64]
Images = NDArray[np.uint8]

COMPARED_AT_ONCE = 512  # images, pixel by pixel
NEIGHBOURS = 5  # k of the neighbourhoods, as in arXiv:2002.09797

# Changing any of these changes every figure.
SEED = 2002_09797
WIDTHS = (3, 32, 64, 128)
SIZE = 32
BATCH = 256
INCEPTION_BATCH = 32


def frechet(real: Features, made: Features) -> float:
    """Frechet distance between normal distributions with the sets' means and covariances (arXiv:1706.08500).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2). Grows as sets shrink: compare sets of one size.

    Args:
        real: [n,d].
        made: [m,d].
    """
    apart = real.mean(0) - made.mean(0)
    left, right = _covariance(real), _covariance(made)
    root = _root(left)
    shared = np.sqrt(np.linalg.eigvalsh(root @ right @ root).clip(0.0)).sum()
    return max(0.0, float(apart @ apart + np.trace(left) + np.trace(right) - 2.0 * shared))


def neighbourhoods(real: Features, made: Features, k: int = NEIGHBOURS) -> dict[str, NDArray[np.float64]]:
    """Precision and recall (arXiv:1904.06991), density and coverage (arXiv:2002.09797), row by row.

    A neighbourhood is the ball around a row that reaches its k-th nearest row of the same set.

    Returns:
        float64, of which the means are the figures: `precision` [m]: whether a sample is in the neighbourhood of a real
        image; `recall` [n]: the other way round; `density` [m]: real neighbourhoods around a sample, divided by k;
        `coverage` [n]: whether a real neighbourhood holds a sample.
    """
    within_real, within_made, across = distances(real, real), distances(made, made), distances(real, made)
    reach_real = np.sort(within_real, 1)[:, min(k, len(real) - 1)]  # the nearest is the row itself
    reach_made = np.sort(within_made, 1)[:, min(k, len(made) - 1)]
    inside_real = across <= reach_real[:, None]
    return {
        "precision": inside_real.any(0).astype(np.float64),
        "recall": (across <= reach_made[None]).any(1).astype(np.float64),
        "density": inside_real.sum(0) / k,
        "coverage": inside_real.any(1).astype(np.float64),
    }


def distances(left: Features, right: Features) -> Features:
    """Euclidean distances [n,m] between rows [n,d] and [m,d]."""
    squares = (left**2).sum(1)[:, None] + (right**2).sum(1)[None] - 2.0 * left @ right.T
    found: Features = np.sqrt(squares.clip(0.0))
    return found


def nearest(images: Images, others: ImageRows) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distance of each image to the nearest of others, pixel by pixel, and which that is.

    Args:
        images: uint8 [n,S,S,3].
        others: uint8 [m,S,S,3], m at least 1.

    Returns:
        float64 [n] in levels, int64 [n].
    """
    rows = images.reshape(len(images), -1).astype(np.float64)
    least, which = np.full(len(rows), np.inf), np.zeros(len(rows), np.int64)
    for start in range(0, len(others), COMPARED_AT_ONCE):
        part = np.array(others[start : start + COMPARED_AT_ONCE]).reshape(-1, rows.shape[1]).astype(np.float64)
        apart = distances(rows, part)
        closer = apart.min(1) < least
        which[closer] = start + apart.argmin(1)[closer]
        least = np.minimum(least, apart.min(1))
    return least, which


def _covariance(rows: Features) -> Features:
    """Unbiased; that of a single row is nothing."""
    centred = rows - rows.mean(0)
    found: Features = centred.T @ centred / max(1, len(rows) - 1)
    return found


def _root(matrix: Features) -> Features:
    """The symmetric square root of a covariance."""
    values, vectors = np.linalg.eigh(matrix)
    found: Features = (vectors * np.sqrt(values.clip(0.0))) @ vectors.T
    return found


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
