"""timm's networks as backbones, by its `features_only`: the maps that timm says they have.

Layers keep timm's names behind `body.model`, so that a classifier's weights fit: maps are read out of the network's
own forward pass (`FeatureGetterNet`), and what lies behind the last of them is cut off.
"""

from typing import Any

from torch import Tensor, nn

from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.models.backbones.base import Backbone, expect_strides
from nanocv_cli.models.registry import without_weights
from nanocv_cli.models.timm_networks import create

FEATURES: dict[str, Any] = {"features_only": True, "feature_cls": "getter"}


class TimmBackbone(Backbone):
    """Maps of one of timm's networks.

    Args:
        network: of timm's `features_only`.
        strides: of its maps.
        channels: of its maps.
    """

    def __init__(self, network: nn.Module, strides: tuple[int, ...], channels: tuple[int, ...]) -> None:
        super().__init__()
        self.body = network
        self.strides, self.channels = strides, channels

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """See `Backbone`."""
        maps: list[Tensor] = self.body(images)
        return maps


def build_timm_backbone(name: str, strides: tuple[int, ...], config: ModelConfig) -> TimmBackbone:
    """One of timm's networks as a backbone.

    Args:
        name: `NAME` or `NAME.TAG`.
        strides: of the maps to give, rising.
        config: of the model that carries it.

    Raises:
        ConfigError: timm has no such network, or not for images of this size, or with other maps.
        ModelError: the pretrained weights cannot be had.
    """
    plain = config.model_copy(update={"pretrained": False})
    told: Any = without_weights(lambda: create(name, plain, **FEATURES)).feature_info
    # Of several maps of one stride the last has seen most.
    last = dict(zip(told.reduction(), told.out_indices, strict=True))
    channels = dict(zip(told.reduction(), told.channels(), strict=True))
    expect_strides(name, list(last), strides)
    network = create(name, config, **FEATURES, out_indices=tuple(last[stride] for stride in strides))
    return TimmBackbone(network, strides, tuple(channels[stride] for stride in strides))
