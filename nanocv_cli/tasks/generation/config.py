"""What a generative model and its recipe are told beside what every model is."""

from typing import Literal

from pydantic import Field, field_validator

from nanocv_cli.config.schema import Config, CropAugment, Fraction, ModelConfig, TrainConfig


class SamplingConfig(Config):
    """How the model gets from noise to an image, unless asked otherwise."""

    steps: int = Field(12, ge=1, le=1000, description="steps from noise to image")
    guidance: float = Field(1.5, ge=0.0, le=100.0, description="1: the class alone; more: exaggerated")
    solver: Literal["heun", "euler"] = Field("heun", description="heun evaluates the network twice per step")


class Model(ModelConfig):
    """What every model has, and how this one samples and is measured."""

    sampling: SamplingConfig = Field(SamplingConfig(), description="from noise to image, unless asked otherwise")
    classifier: str | None = Field(
        None, description="a classifier's model file or weights name, for the class accuracy of samples"
    )


class Recipe(TrainConfig):
    """The loop's keys and those of generation."""

    label_dropout: Fraction = Field(
        0.1, description="share of images that are trained on without class, for guidance (arXiv:2207.12598)"
    )
    augment: CropAugment = Field(CropAugment(), description="of the images of a batch")

    @field_validator("quantise")
    @classmethod
    def _quantise_fits(cls, wanted: str | None) -> str | None:
        if wanted:
            raise ValueError("expected none: engines compute the loop of a sampler in floating point")
        return wanted
