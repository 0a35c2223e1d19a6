"""The features by which FID is defined: those of one published Inception network, downloaded when asked for."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nanocv_cli.models.published import published_state

BATCH = 32


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
        for start in range(0, len(images), BATCH):
            batch = torch.from_numpy(np.array(images[start : start + BATCH])).permute(0, 3, 1, 2)
            found.append(network(batch)[0].double())
    return torch.cat(found).numpy()
