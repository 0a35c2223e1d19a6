"""One door to every backbone that a network can carry, by the name that `--model` has for its classifier."""

from nanocv_cli.config.lookup import TIMM
from nanocv_cli.config.nearest import nearest
from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.config.torchvision_names import TORCHVISION_CLASSIFIERS
from nanocv_cli.errors import ConfigError
from nanocv_cli.models.arguments import NanoResArgs
from nanocv_cli.models.backbones.base import Backbone
from nanocv_cli.models.backbones.nanores import NanoResBackbone
from nanocv_cli.untrusted import printable

NANORES = "nanores"


def build_backbone(name: str, strides: tuple[int, ...], config: ModelConfig) -> Backbone:
    """The backbone of a name.

    Args:
        name: nanores, a torchvision classifier's, or `timm/NAME`.
        strides: of the maps to give, rising.
        config: of the model that carries it; `pretrained` asks for the backbone's published weights.

    Raises:
        ConfigError: there is no such backbone, or it has no maps of these strides, or none of images of this size.
        ModelError: the pretrained weights cannot be had.
    """
    # Imported where one is built: timm is an extra, and torchvision's take a while.
    if name.startswith(TIMM):
        from nanocv_cli.models.backbones.timm import build_timm_backbone

        return build_timm_backbone(name.removeprefix(TIMM), strides, config)
    if name in TORCHVISION_CLASSIFIERS:
        from nanocv_cli.models.backbones.torchvision import build_torchvision_backbone

        return build_torchvision_backbone(name, strides, config.pretrained)
    if name == NANORES:
        if config.pretrained:
            raise ConfigError("nobody publishes weights of nanores", "start from a run of it: --from RUN")
        return NanoResBackbone(NanoResArgs(), strides)
    known = [NANORES, *TORCHVISION_CLASSIFIERS]
    raise ConfigError(
        f"model.args.backbone is {printable(repr(name), 80)}, which is no backbone",
        nearest(name, known) or f"{NANORES}, a torchvision classifier's name, or {TIMM}NAME",
    )
