"""What a backbone is to the network that looks at its maps: the network itself is one, or carries one.

Layers of a network's own backbone stand in the network under their own names (`stem`, `fine`), as they have in its
weights from the first; those of a carried one stand behind `backbone`.
"""

from collections.abc import Collection

from torch import Tensor, nn

from nanocv_cli.errors import ConfigError


class Backbone(nn.Module):
    """Feature maps of images.

    Attributes:
        channels: of each map.
        strides: of each map, pixels of the image from one of its places to the next, rising.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """Maps normalised float [N,3,H,W] to a float [N,C,ceil(H/stride),ceil(W/stride)] for each stride."""
        raise NotImplementedError


class Carrier(Backbone):
    """A network's base that has the maps of a backbone other than its own.

    Args:
        backbone: gives them.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.channels, self.strides = backbone.channels, backbone.strides

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """See `Backbone`."""
        return self.backbone.feature_maps(images)


def expect_strides(name: str, found: Collection[int], wanted: tuple[int, ...]) -> None:
    """Makes sure that a backbone has the maps that a network looks at.

    Raises:
        ConfigError: it has not.
    """
    if missing := [str(stride) for stride in wanted if stride not in found]:
        has = ", ".join(map(str, sorted(found))) or "none"
        raise ConfigError(
            f"{name} gives no map of stride {' and '.join(missing)}; it has {has}",
            "choose a backbone that halves its input step by step, such as resnet18 or timm/mobilenetv4_conv_small",
        )
