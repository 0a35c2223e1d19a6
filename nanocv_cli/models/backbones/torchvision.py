"""torchvision's classifiers as backbones: the layers before the pool, one after the other, and the maps between them.

Which maps there are is measured, on shapes alone. Layers keep torchvision's names, so that a classifier's weights fit.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torchvision import models

from nanocv_cli.models.backbones.base import Backbone, expect_strides
from nanocv_cli.models.published import torchvision_state
from nanocv_cli.models.registry import without_weights

PROBE = 64  # pixels; side of the image whose maps are measured
# Sequences that are looked into: their steps give maps of different strides.
SEQUENCES = ("features", "trunk_output")
# These change their images, or have heads, beside the sequence of their layers.
MORE_THAN_LAYERS = ("googlenet", "inception_v3")


class TorchvisionBackbone(Backbone):
    """The layers of a classifier up to the coarsest map that is asked for.

    Args:
        network: the classifier.
        last: for each stride, rising, the name of the layer whose output is the map.
        channels: of these maps.
    """

    def __init__(self, network: nn.Module, last: dict[int, str], channels: tuple[int, ...]) -> None:
        super().__init__()
        self.strides, self.channels = tuple(last), channels
        self.last = tuple(last.values())
        for name, step in _steps(network):
            sequence, _, inner = name.rpartition(".")
            if sequence and not hasattr(self, sequence):
                self.add_module(sequence, nn.Sequential())
            (self.get_submodule(sequence) if sequence else self).add_module(inner, step)
            if name == self.last[-1]:
                break

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """See `Backbone`."""
        features, maps = images, []
        for name, step in _steps(self):
            features = step(features)
            if name in self.last:
                maps.append(features)
        return maps


def build_torchvision_backbone(name: str, strides: tuple[int, ...], pretrained: bool) -> TorchvisionBackbone:
    """A torchvision classifier as a backbone.

    Args:
        name: the classifier's, one that torchvision has.
        strides: of the maps to give, rising.
        pretrained: whether it has torchvision's default weights.

    Raises:
        ConfigError: it has no maps of these strides.
        ModelError: the pretrained weights cannot be had.
    """
    last: dict[int, str] = {}
    channels: dict[int, int] = {}
    if name not in MORE_THAN_LAYERS:
        features = torch.empty(1, 3, PROBE, PROBE, device="meta")
        for step, layer in _steps(without_weights(lambda: _classifier(name))):
            try:
                features = layer(features)
            except (RuntimeError, ValueError, TypeError, AssertionError):
                # It is no layer of a sequence, so what follows is none either.
                break
            # Maps whose size is no share of the image's have no place for each of its squares.
            if features.ndim == 4 and features.shape[2] == features.shape[3] and PROBE % features.shape[2] == 0:
                stride = PROBE // features.shape[2]
                last[stride], channels[stride] = step, features.shape[1]
    expect_strides(name, list(last), strides)
    network = _classifier(name)
    if pretrained:
        network.load_state_dict(torchvision_state(name))
    return TorchvisionBackbone(
        network, {stride: last[stride] for stride in strides}, tuple(channels[stride] for stride in strides)
    )


def _classifier(name: str) -> nn.Module:
    network: nn.Module = models.get_model(name, weights=None)
    return network


def _steps(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers before the pool by their names, those of sequences one by one."""
    for name, child in network.named_children():
        if isinstance(child, nn.AdaptiveAvgPool2d | nn.Linear):
            return
        if name in SEQUENCES:
            yield from ((f"{name}.{inner}", step) for inner, step in child.named_children())
        else:
            yield name, child
