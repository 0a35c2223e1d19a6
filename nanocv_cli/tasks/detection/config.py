"""What a recipe tells the augmentation of detection; its losses have nothing to choose."""

from pydantic import Field

from nanocv_cli.config.schema import TrainConfig, ViewAugment


class Recipe(TrainConfig):
    """The loop's keys and those of detection."""

    augment: ViewAugment = Field(ViewAugment(), description="of the images of a batch and their boxes")
