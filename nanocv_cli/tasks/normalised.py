"""Raw images as networks read them, inside the graph."""

import torch
from torch import Tensor, nn


class Normalised(nn.Module):
    """A network behind its normalisation; what a task deploys says what becomes of the answers.

    Args:
        network: reads normalised float [N,3,S,S].
        mean: per channel, of RGB values in 0..1.
        std: per channel.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        # (x/255 - mean) / std as one multiplication and one addition.
        self.register_buffer("scale", torch.tensor([1.0 / (255.0 * s) for s in std]).view(1, 3, 1, 1))
        self.register_buffer("shift", torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(1, 3, 1, 1))

    def normalise(self, images: Tensor) -> Tensor:
        """Maps uint8 [N,S,S,3] RGB to normalised float [N,3,S,S]."""
        return images.permute(0, 3, 1, 2).float() * self.scale + self.shift
