"""What a recipe tells the loss and the augmentation of segmentation."""

from pydantic import Field

from nanocv_cli.config.schema import TrainConfig, ViewAugment


class Recipe(TrainConfig):
    """The loop's keys and those of segmentation."""

    label_smoothing: float = Field(
        0.0, ge=0.0, lt=1.0, description="share of the target that all classes have alike (arXiv:1512.00567)"
    )
    region_loss: float = Field(
        0.0, ge=0.0, description="weight of the Dice loss (arXiv:1606.04797) beside cross-entropy; 0: off"
    )
    augment: ViewAugment = Field(ViewAugment(), description="of the images of a batch and their masks")
