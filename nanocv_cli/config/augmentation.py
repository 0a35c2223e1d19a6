"""What the shared parts of augmentation read; a task's recipe takes those it uses. Every strength is 0 for off."""

from pydantic import Field

from nanocv_cli.config.schema import Config, Fraction


class Crops(Config):
    """Of `data/augment.py:random_crops`: crops of images that are labelled as a whole."""

    flip: bool = Field(True, description="mirror left-right with probability 1/2")
    rescale: Fraction = Field(1.0, description="share of random crops that are resized; the others only move")
    min_area: float = Field(
        1.0, gt=0.0, le=1.0, description="smallest share of the image's area a resized crop keeps; uniform in area"
    )
    aspect: float = Field(1.0, ge=1.0, le=2.0, description="largest width:height distortion of a resized crop")


class Views(Config):
    """Of `data/views.py`: views of images whose labels stand at places, boxes or masks."""

    flip: bool = Field(True, description="mirror left-right with probability 1/2")
    rescale: Fraction = Field(1.0, description="share of views that are resized; the others only move")
    min_scale: float = Field(
        1.0, gt=0.0, le=1.0,
        description="smallest share of the image's area a view shows; uniform in the logarithm of its side",
    )  # fmt: skip
    aspect: float = Field(1.0, ge=1.0, le=2.0, description="largest width:height distortion of a view")
    zoom_out: float = Field(
        1.0, ge=1.0, le=4.0, description="largest factor by which an image is shrunk onto a grey ground"
    )
    mosaic: Fraction = Field(0.0, description="share of images that are put together from four")


class ColourAugment(Config):
    """Of `data/augment.py:colour_matrices`: colours changed at random, image by image."""

    brightness: Fraction = Field(0.0, description="largest relative change")
    contrast: Fraction = Field(0.0, description="largest relative change")
    saturation: Fraction = Field(0.0, description="largest relative change")
    tint: Fraction = Field(0.0, description="largest relative change of each colour channel by itself")


class CropAugment(ColourAugment, Crops):
    """Crops, then colours."""


class ViewAugment(ColourAugment, Views):
    """Views, then colours."""
