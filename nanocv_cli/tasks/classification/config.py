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
    teacher: str | None = Field(
        None,
        min_length=1,
        description="a classifier whose answers are learnt too (arXiv:1503.02531): run, weights or graph",
    )
    teacher_weight: Fraction = Field(0.5, description="share of the loss that the teacher's answers have")
    teacher_temperature: float = Field(
        4.0, gt=0.0, le=100.0, description="what the teacher's logits and the network's are divided by, to compare them"
    )
    augment: Augment = Field(Augment(), description="of the images of a batch")
