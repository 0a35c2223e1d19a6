"""What a recipe tells the loss and the augmentation of this task."""

from pydantic import Field

from nanocv_cli.config.schema import ColourAugment, TrainConfig


class Recipe(TrainConfig):
    """The loop's keys, and these."""

    tolerance: float = Field(1.0, gt=0.0, le=10.0, description="error from which the loss grows linearly, flowers")
    augment: ColourAugment = Field(ColourAugment(), description="of the images of a batch")
