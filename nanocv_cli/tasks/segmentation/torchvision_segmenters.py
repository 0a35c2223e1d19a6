"""torchvision's segmenters behind nanocv's door: by name, with a head of the right size."""

from torch import Tensor, nn

from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.config.torchvision_names import TORCHVISION_SEGMENTERS
from nanocv_cli.errors import ConfigError
from nanocv_cli.models.published import torchvision_network


def build_torchvision_segmenter(config: ModelConfig, classes: int) -> nn.Module:
    """Builds a torchvision segmenter; with `pretrained`, torchvision's backbone weights.

    Raises:
        ConfigError: torchvision has no such segmenter.
        ModelError: the backbone's weights cannot be downloaded.
    """
    name = config.architecture
    if name not in TORCHVISION_SEGMENTERS:
        raise ConfigError(f"torchvision has no segmenter {name!r}", f"it has: {', '.join(TORCHVISION_SEGMENTERS)}")
    return TorchvisionSegmenter(torchvision_network(name, config.pretrained, num_classes=classes))


class TorchvisionSegmenter(nn.Module):
    """A torchvision segmenter that answers its logits alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Maps normalised float [N,3,H,W] to logits float [N,classes,H,W]."""
        logits: Tensor = self.network(images)["out"]
        return logits
