"""What a recipe tells the loss and the augmentation of classification."""

from pydantic import Field

from nanocv_cli.config.schema import CropAugment, Fraction, TrainConfig


class Augment(CropAugment):
    """Crops and colours, erasing and mixing."""

    erase: Fraction = Field(0.0, description="probability that a random rectangle is blanked (arXiv:1708.04896)")
    mix: Fraction = Field(0.0, description="probability that a batch is mixed (CutMix, arXiv:1905.04899)")


class Recipe(TrainConfig):
    """The loop's keys and those of classification."""

    label_smoothing: float = Field(
        0.0, ge=0.0, lt=1.0, description="share of the target that all classes have alike (arXiv:1512.00567)"
    )
    augment: Augment = Field(Augment(), description="of the images of a batch")
