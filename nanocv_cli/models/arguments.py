"""What nanocv's own networks may be built with: `model.args` of a config. No torch: a config is checked fast."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from nanocv_cli.config.schema import ArchitectureArgs, Fraction

Channels = Annotated[int, Field(ge=1, le=4096)]
EvenChannels = Annotated[int, Field(ge=2, le=4096, multiple_of=2)]
GroupedChannels = Annotated[int, Field(ge=8, le=4096, multiple_of=8)]  # normalised in 8 groups
Blocks = Annotated[int, Field(ge=1, le=64)]
MOST_STAGES = 6


class LeNetArgs(ArchitectureArgs):
    """Of `lenet.py`."""

    widths: tuple[Channels, Channels, Channels, Channels, Channels] = Field(
        (16, 32, 64, 128, 256), description="channels after each of the five convolutions, 1..4096"
    )
    kernel: Literal[3, 5, 7] = Field(3, description="side of the kernels, pixels")
    dropout: Fraction = Field(0.0, description="probability before the linear layer")


class NanoResArgs(ArchitectureArgs):
    """Of `nanores.py`."""

    stem: Channels = Field(24, description="channels after the first convolution")
    widths: tuple[Channels, ...] = Field(
        (48, 96, 192, 384), min_length=1, max_length=MOST_STAGES, description="channels of each stage, 1..4096"
    )
    depth: Blocks = Field(2, description="residual blocks in each stage")
    dropout: Fraction = Field(0.0, description="probability before the linear layer")


class BackboneArgs(ArchitectureArgs):
    """Of networks that look at the maps of a backbone: their own, or a classifier's.

    Attributes:
        OF_OWN: keys that tell how the own one is built, so that another leaves them unread.
    """

    OF_OWN: ClassVar[tuple[str, ...]]

    backbone: str | None = Field(
        None,
        min_length=1,
        description="nanores, a torchvision classifier's name, or timm/NAME; none: the network's own",
    )

    @model_validator(mode="after")
    def _all_is_read(self) -> Self:
        fields = type(self).model_fields
        changed = [key for key in self.OF_OWN if getattr(self, key) != fields[key].default]
        if self.backbone is not None and changed:
            raise ValueError(f"{changed[0]} is of the network's own backbone, which {self.backbone} takes the place of")
        return self


class NanoSpotArgs(BackboneArgs):
    """Of `nanospot.py`."""

    OF_OWN = ("widths",)

    widths: tuple[EvenChannels, EvenChannels, EvenChannels, EvenChannels] = Field(
        (48, 96, 128, 144), description="channels of the backbone at strides 4, 8, 16 and 32; even"
    )
    neck: Channels = Field(56, description="channels of the pyramid and of the towers")


class NanoSegArgs(BackboneArgs):
    """Of `nanoseg.py`."""

    OF_OWN = ("stem", "widths")

    stem: Channels = Field(16, description="channels after the first convolution")
    widths: tuple[EvenChannels, EvenChannels, EvenChannels] = Field(
        (32, 64, 128), description="channels of the encoder at strides 4, 8 and 16; even"
    )
    decoder: Channels = Field(64, description="channels of the decoder")
    dropout: Fraction = Field(0.0, description="probability before the last layer")


class NanoFlowArgs(ArchitectureArgs):
    """Of `nanoflow.py`."""

    widths: tuple[GroupedChannels, GroupedChannels] = Field(
        (64, 128), description="channels on the 16x16 and on the 8x8 grid; multiples of 8"
    )
    depth: Blocks = Field(2, description="residual blocks at each stage")
    embedding: Channels = Field(256, description="width of what time and class are embedded in")
