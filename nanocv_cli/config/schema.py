"""The typed, frozen shape of every config file: what a key means, its unit and the values it may take."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Channels3 = tuple[float, float, float]


class Config(BaseModel):
    """Frozen; unknown keys and implicit type changes (such as `"5"` for 5) are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class FlowersConfig(Config):
    """How the synthetic flowers set is drawn (`data/flowers/`)."""

    seed: int = Field(0, ge=0, description="one seed draws one set, picture by picture")
    size: int = Field(256, ge=64, le=1024, description="side of the square pictures, pixels")
    train: int = Field(1600, ge=4, description="pictures in the train split")
    val: int = Field(200, ge=4, description="pictures in the val split")
    test: int = Field(400, ge=4, description="pictures in the test split")


class DataConfig(Config):
    """One data set: where it lies, what format it has, how it is split."""

    name: str = Field(min_length=1)
    path: str = Field(description="folder of the pictures; a relative path starts at the project root")
    archive: str | None = Field(None, description="the one DVC-tracked tar file that `path` is unpacked from")
    format: Literal["auto", "class_folders"] = Field("auto", description="layout of the labels; auto looks")
    classes: tuple[str, ...] | None = Field(None, description="class names in label order; none: read from the set")
    val_fraction: float = Field(0.15, gt=0.0, lt=1.0, description="val share where the set has no val split")
    test_fraction: float = Field(0.15, ge=0.0, lt=1.0, description="test share where the set has no splits at all")
    split_seed: int = Field(0, ge=0, description="a picture's split is a hash of this seed and its content")
    flowers: FlowersConfig | None = Field(None, description="how to draw the set, for the one that nanocv draws")


class ModelConfig(Config):
    """One architecture and the picture it reads."""

    name: str = Field(min_length=1)
    task: Literal["classification"] = "classification"
    architecture: str = Field(description="a name of `models/registry.py`, or any torchvision classifier")
    source: Literal["nanocv", "torchvision"] = "nanocv"
    input_size: int = Field(224, ge=16, le=2048, description="side of the square picture the graph reads, pixels")
    resize: Literal["crop", "stretch"] = Field(
        "crop", description="crop: short side to size, centre; stretch: ignore aspect"
    )
    mean: Channels3 = Field((0.485, 0.456, 0.406), description="per channel, of RGB values in 0..1")
    std: Channels3 = Field((0.229, 0.224, 0.225), description="per channel, of RGB values in 0..1")
    dropout: Fraction = Field(0.0, description="before the last linear layer (nanocv's own architectures)")
    pretrained: bool = Field(False, description="start from torchvision's weights, downloaded by torchvision")
    recipe: str | None = Field(None, description="the train config this model is trained with unless --train names one")


class AugmentConfig(Config):
    """Batch augmentation; every strength is 0 for off."""

    flip: bool = Field(True, description="mirror left-right with probability 1/2")
    rescale: Fraction = Field(1.0, description="share of random crops that are resized; the others only move")
    min_scale: float = Field(
        1.0, gt=0.0, le=1.0, description="smallest share of the picture's area a resized crop keeps"
    )
    aspect: float = Field(1.0, ge=1.0, le=2.0, description="largest width:height distortion of a resized crop")
    brightness: Fraction = Field(0.0, description="largest relative change")
    contrast: Fraction = Field(0.0, description="largest relative change")
    saturation: Fraction = Field(0.0, description="largest relative change")
    tint: Fraction = Field(0.0, description="largest relative change of each colour channel by itself")
    erase: Fraction = Field(0.0, description="probability that a random rectangle is blanked")
    mix: Fraction = Field(0.0, description="probability that a batch is mixed (CutMix, arXiv:1905.04899)")


class TrainConfig(Config):
    """One recipe."""

    name: str = Field(min_length=1)
    epochs: int = Field(20, ge=1, le=100_000)
    batch_size: int = Field(32, ge=1, le=65_536)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(2e-3, gt=0.0, le=100.0, description="at the peak of the schedule")
    weight_decay: float = Field(0.05, ge=0.0, le=10.0, description="decoupled; not on biases and norms")
    momentum: float = Field(0.9, ge=0.0, lt=1.0, description="sgd's momentum; adamw's first beta")
    schedule: Literal["one-cycle", "cosine"] = Field(
        "one-cycle", description="one-cycle: warm up, then anneal to zero; cosine: anneal from the start"
    )
    warmup: float = Field(0.2, ge=0.0, lt=1.0, description="share of all steps that one-cycle spends rising")
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    ema_decay: float = Field(0.0, ge=0.0, lt=1.0, description="of the exponential moving average of weights; 0: off")
    gradient_clip: float = Field(0.0, ge=0.0, description="largest gradient norm; 0: off")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: the fastest mixed precision the device has, else fp32"
    )
    start_size: float = Field(
        1.0, gt=0.0, le=1.0, description="share of input_size the first epochs train at; grows to 1 by 2/3 of training"
    )
    seed: int = Field(0, ge=0, lt=2**31)
    augment: AugmentConfig = AugmentConfig()


class Peaks(Config):
    """Peak arithmetic by precision, FLOP per second (int8: operations per second)."""

    fp32: float = Field(gt=0.0)
    fp16: float = Field(gt=0.0)


class GpuConfig(Config):
    """One device's published peaks."""

    name: str = Field(min_length=1)
    peak: Peaks
    memory_bandwidth: float = Field(gt=0.0, description="device memory, bytes per second")
    l2_bandwidth: float = Field(gt=0.0, description="second-level cache, bytes per second")
    source: str = Field(min_length=1, description="where the figures stand")


class RunConfig(Config):
    """Everything one command works with, resolved; every run writes it beside its results."""

    data: DataConfig
    model: ModelConfig
    train: TrainConfig
    gpu: GpuConfig
