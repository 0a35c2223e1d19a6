"""Raw images as networks read them: in training with changed colours, and inside the graph."""

import torch
from torch import Tensor, nn

from nanocv_cli.config.schema import ColourAugment
from nanocv_cli.data.augment import colour_matrices, normalise
from nanocv_cli.tasks.base import StepSettings


def recoloured(views: Tensor, augment: ColourAugment, settings: StepSettings) -> Tensor:
    """Colours changed at random as the recipe says, then normalised as the model reads them.

    Args:
        views: uint8 [N,S,S,3], what geometry has left of the batch's images.
        augment: the recipe's.
        settings: of the step.

    Returns:
        [N,3,S,S] of `settings.dtype`.
    """
    model = settings.model
    matrix, offset = colour_matrices(len(views), augment, settings.generator)
    return normalise(views, matrix, offset, torch.tensor(model.mean), torch.tensor(model.std), settings.dtype)


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
