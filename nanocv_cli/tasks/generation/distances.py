"""How far a set of samples is from a set of real images, in any features."""

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]
Images = NDArray[np.uint8]

COMPARED_AT_ONCE = 512  # images, pixel by pixel
NEIGHBOURS = 5  # k of the neighbourhoods, as in arXiv:2002.09797


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


def neighbourhoods(real: Features, made: Features, k: int = NEIGHBOURS) -> dict[str, float]:
    """Precision and recall (arXiv:1904.06991), density and coverage (arXiv:2002.09797).

    A neighbourhood is the ball around a row that reaches its k-th nearest row of the same set.

    Returns:
        `precision`: share of samples in the neighbourhood of a real image; `recall`: the other way round; `density`:
        real neighbourhoods around a sample, divided by k; `coverage`: share of real neighbourhoods with a sample.
    """
    within_real, within_made, across = distances(real, real), distances(made, made), distances(real, made)
    reach_real = np.sort(within_real, 1)[:, min(k, len(real) - 1)]  # the nearest is the row itself
    reach_made = np.sort(within_made, 1)[:, min(k, len(made) - 1)]
    inside_real = across <= reach_real[:, None]
    return {
        "precision": float(inside_real.any(0).mean()),
        "recall": float((across <= reach_made[None]).any(1).mean()),
        "density": float(inside_real.sum(0).mean() / k),
        "coverage": float(inside_real.any(1).mean()),
    }


def distances(left: Features, right: Features) -> Features:
    """Euclidean distances [n,m] between rows [n,d] and [m,d]."""
    squares = (left**2).sum(1)[:, None] + (right**2).sum(1)[None] - 2.0 * left @ right.T
    found: Features = np.sqrt(squares.clip(0.0))
    return found


def nearest(images: Images, others: Images) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
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
