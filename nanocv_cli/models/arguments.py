"""What nanocv's own networks may be built with: `model.args` of a config. No torch: a config is checked fast."""

from typing import Annotated, Literal

from pydantic import Field

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


class NanoSpotArgs(ArchitectureArgs):
    """Of `nanospot.py`."""

    widths: tuple[EvenChannels, EvenChannels, EvenChannels, EvenChannels] = Field(
        (48, 96, 128, 144), description="channels of the backbone at strides 4, 8, 16 and 32; even"
    )
    neck: Channels = Field(56, description="channels of the pyramid and of the towers")


class NanoSegArgs(ArchitectureArgs):
    """Of `nanoseg.py`."""

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
