"""Images from noise by a checkpoint: the torch side of `nanocv sample`."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nanocv_cli.engine.sampling import SamplingSettings
from nanocv_cli.models.checkpoint import load_network
from nanocv_cli.tasks.generation.sampler import Sampler


class CheckpointSampler:
    """A generative model's checkpoint; see `nanocv_cli.engine.sampling.Sampler`.

    Args:
        path: its file.
        device: where it runs.

    Raises:
        ModelError: the file is damaged.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        network, config, self.card = load_network(path)
        self._module = Sampler(network, config).to(device).eval()
        self._device = device

    def __call__(
        self, noise: NDArray[np.float32], label: NDArray[np.int64], settings: SamplingSettings
    ) -> NDArray[np.uint8]:
        with torch.inference_mode():
            start, classes = (torch.from_numpy(array).to(self._device) for array in (noise, label))
            (images,) = self._module(
                start, classes, settings.steps, settings.guidance, settings.heun, settings.evaluations
            )
        found: NDArray[np.uint8] = images.cpu().numpy()
        return found
