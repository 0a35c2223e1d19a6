"""The typed, frozen shape of every config file: what a key means, its unit and the values it may take."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationInfo, create_model, field_validator

from nanocv_cli.config.expected_type import OneOf
from nanocv_cli.config.project import GROUPS
from nanocv_cli.rooms import entered_readers, is_task, task_names

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Channels3 = tuple[float, float, float]


class Config(BaseModel):
    """Frozen; unknown keys and implicit type changes (such as `"5"` for 5) are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class FlowersConfig(Config):
    """How the synthetic flowers set is drawn (`data/flowers/`)."""

    seed: int = Field(0, ge=0, description="one seed draws one set, image by image")
    size: int = Field(256, ge=64, le=1024, description="side of the square images, pixels")
    train: int = Field(1600, ge=4, description="images in the train split")
    val: int = Field(200, ge=4, description="images in the val split")
    test: int = Field(400, ge=4, description="images in the test split")


Colour = tuple[int, int, int]


class MaskConfig(Config):
    """What the values of a set's masks mean."""

    ignore: tuple[int, ...] = Field(
        (), description="values of index masks that are neither trained on nor evaluated; 255 never is"
    )
    colours: dict[str, Colour] | None = Field(
        None, description="class names with their colours, for masks in colours; their order is the order of classes"
    )
    ignored_colours: tuple[Colour, ...] = Field((), description="colours that are neither trained on nor evaluated")


# Of labels; `auto` looks which it is.
FORMATS = ("auto", "class_folders", "coco", "pascal_voc", "yolo", "masks", "shards")


def format_names() -> tuple[str, ...]:
    """The names of all formats: those of this package first, then those of others."""
    return tuple(dict.fromkeys((*FORMATS, *(format for _, format, _ in entered_readers()))))


def is_format(name: str) -> bool:
    """Whether there is a format of this name; looks at the installed packages only where nanocv has none."""
    return name in FORMATS or name in format_names()


# Half a million images of 256 pixels.
CACHE_GB = 100.0


class DataConfig(Config):
    """One data set: where it lies, what format it has, how it is split."""

    name: str = Field(min_length=1, description="of the set, as cards and summaries tell it")
    path: str = Field(description="folder of the images, or URL of shards; a relative path starts at the project root")
    archive: str | None = Field(None, description="the one DVC-tracked tar file that `path` is unpacked from")
    format: Annotated[str, OneOf(format_names, is_format)] = Field(
        "auto", description="layout of the labels; auto looks"
    )
    classes: tuple[str, ...] | None = Field(None, description="class names in label order; none: read from the set")
    shards: tuple[str, ...] | None = Field(
        None, description="names of tar shards below path, ranges as {000000..000009}; none: those in the folder"
    )
    mask: MaskConfig = Field(MaskConfig(), description="what the values of masks mean")
    val_fraction: float = Field(0.15, gt=0.0, lt=1.0, description="val share where the set has no val split")
    test_fraction: float = Field(0.15, ge=0.0, lt=1.0, description="test share where the set has no splits at all")
    split_seed: int = Field(0, ge=0, description="an image's split is a hash of this seed and its content, or its name")
    split_by: Literal["content", "name"] = Field(
        "content", description="content: copies stay together, every byte is read once; name: nothing is read"
    )
    cache_gb: float = Field(
        CACHE_GB, ge=0.0, description="largest cache of decoded images, GB; a split that it has no room for streams"
    )
    flowers: FlowersConfig | None = Field(None, description="how to draw the set, for the one that nanocv draws")


class ArchitectureArgs(Config):
    """What an architecture may be built with; those that have nothing to choose take no key."""


class ModelConfig(Config):
    """One architecture and its image: what every model has; `owners.py` adds what its task and network read."""

    name: str = Field(min_length=1, description="of the model, by which references find its runs")
    task: Annotated[str, OneOf(task_names, is_task)] = Field("classification", description="what the model is for")
    architecture: str = Field(
        description="one of nanocv's own networks, or any of torchvision's or timm's by its name there"
    )
    source: Literal["nanocv", "torchvision", "timm"] = Field("nanocv", description="whose network it is")
    input_size: int = Field(224, ge=16, le=2048, description="side of the square image the graph reads, pixels")
    resize: Literal["crop", "stretch"] = Field(
        "crop", description="crop: short side to size, centre; stretch: ignore aspect"
    )
    mean: Channels3 = Field((0.485, 0.456, 0.406), description="per channel, of RGB values in 0..1")
    std: Channels3 = Field((0.229, 0.224, 0.225), description="per channel, of RGB values in 0..1")
    pretrained: bool = Field(
        False,
        description="start from the weights that torchvision or timm publishes, unless train.start names others",
    )
    args: SerializeAsAny[ArchitectureArgs] = Field(
        default_factory=ArchitectureArgs, description="what the architecture is built with; its own file says what"
    )
    recipe: str | None = Field(None, description="the train config this model is trained with unless --train names one")


class TrainConfig(Config):
    """One recipe: what the loop reads; `owners.py` adds what the loss and the augmentation of the model's task read."""

    name: str = Field(min_length=1, description="of the recipe, as cards and summaries tell it")
    epochs: int = Field(20, ge=1, le=100_000, description="times that every training image is trained on")
    batch_size: int = Field(32, ge=1, le=65_536, description="images per step, over all processes together")
    accumulate: int = Field(
        1, ge=1, le=65_536, description="micro-batches that a process makes of its share of a batch, to save memory"
    )
    balance: Fraction = Field(
        0.0, description="how far rare classes are drawn more often: 0 not at all, 0.5 by the root, 1 each class alike"
    )
    sync_batchnorm: bool = Field(
        False, description="batch norm counts over the images of all processes, not over each one's own"
    )
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="AdamW (arXiv:1711.05101) or SGD with momentum")
    learning_rate: float = Field(2e-3, gt=0.0, le=100.0, description="at the peak of the schedule")
    weight_decay: float = Field(0.05, ge=0.0, le=10.0, description="decoupled; not on biases and norms")
    momentum: float = Field(0.9, ge=0.0, lt=1.0, description="sgd's momentum; adamw's first beta")
    schedule: Literal["one-cycle", "cosine"] = Field(
        "one-cycle", description="one-cycle: warm up, then anneal to zero; cosine: anneal from the start"
    )
    warmup: float = Field(0.2, ge=0.0, lt=1.0, description="share of all steps that one-cycle spends rising")
    ema_decay: float = Field(0.0, ge=0.0, lt=1.0, description="of the exponential moving average of weights; 0: off")
    judge_every: int = Field(1, ge=1, description="epochs between validations; the last epoch always has one")
    gradient_clip: float = Field(0.0, ge=0.0, description="largest gradient norm; 0: off")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: the fastest mixed precision the device has, else fp32"
    )
    cuda_graphs: Literal["auto", "off"] = Field(
        "auto",
        description="auto: where one CUDA device trains, its launches are captured and replayed; off: not",
    )
    start_size: float = Field(
        1.0, gt=0.0, le=1.0, description="share of input_size the first epochs train at; grows to 1 by 2/3 of training"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="one seed trains one network, step by step")
    start: str | None = Field(
        None,
        min_length=1,
        description="a run, weights or checkpoint to start from: what fits is taken over; none: no such",
    )
    taken_rate: float = Field(
        0.1, gt=0.0, le=1.0, description="factor of the learning rate of what was taken over from `start`"
    )
    freeze: tuple[str, ...] = Field(
        (), description="parameters that keep their values: globs of their names or of modules, such as `features.*`"
    )
    quantise: Literal["int8"] | None = Field(
        None, description="learn with the rounding of int8, which the exported graph computes in; none: floating point"
    )
    log: tuple[Literal["dvclive", "tensorboard", "mlflow", "wandb"], ...] = Field(
        ("dvclive",), description="where the run is recorded, beside its folder; changes nothing in the weights"
    )

    @field_validator("log")
    @classmethod
    def _log_fits(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("expected each name once")
        return names


# Keys of the shared parts of augmentation: a task's recipe takes those it uses. Every strength is 0 for off.


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


class Peaks(Config):
    """Peak arithmetic of matrix products by precision, FLOP per second (int8: operations); dense, not sparse.

    On a GPU with tensor cores these are theirs, fp32 apart.
    """

    fp32: float = Field(gt=0.0, description="also what everything runs at that is no matrix product")
    tf32: float | None = Field(None, gt=0.0, description="of TF32, FLOP per second; none: no such peak")
    fp16: float | None = Field(None, gt=0.0, description="of half precision, FLOP per second; none: no such peak")
    bf16: float | None = Field(None, gt=0.0, description="of bfloat16, FLOP per second; none: no such peak")
    int8: float | None = Field(None, gt=0.0, description="of 8-bit integers, per second; none: no such peak")


class Sources(Config):
    """Where each figure of a device stands."""

    peak: str = Field(min_length=1, description="document and page of the peaks")
    memory_bandwidth: str = Field(min_length=1, description="likewise")
    l2_bandwidth: str = Field(min_length=1, description="or why there is none")


class GpuConfig(Config):
    """One device's peaks."""

    name: str = Field(min_length=1, description="of the device, as `--gpu` takes it")
    title: str = Field(min_length=1, description="what the device is called")
    peak: Peaks
    memory_bandwidth: float = Field(gt=0.0, description="device memory, bytes per second")
    l2_bandwidth: float | None = Field(None, gt=0.0, description="second-level cache, bytes per second; none: unknown")
    l2_size: float = Field(ge=0.0, description="second-level cache, bytes")
    processors: int = Field(ge=1, description="multiprocessors (cores) that work at the same time")
    launch_seconds: float = Field(3e-6, ge=0.0, description="time that starting one more operation costs")
    sources: Sources


class ServeConfig(Config):
    """How a server runs one model: batching, queue, instances, threads. No part of what a run is."""

    name: str = Field(min_length=1, description="of this way of serving")
    backend: Literal["onnxruntime", "openvino", "python"] = Field(
        "onnxruntime", description="of Triton; python is its Python backend with nanocv's model.py, by ONNX Runtime"
    )
    encoded: bool = Field(False, description="whether clients send images as files (JPEG, PNG, WebP), not as pixels")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="that openvino computes a graph of fp32 in")
    max_batch: int = Field(4, ge=1, le=4096, description="most images that are run at once")
    queue_delay_us: int = Field(500, ge=0, le=60_000_000, description="longest wait for a fuller batch, microseconds")
    preferred: tuple[int, ...] = Field((), description="batch sizes that are run without further waiting")
    instances: int = Field(1, ge=1, le=64, description="copies of the model that run side by side (per GPU, on GPUs)")
    kind: Literal["cpu", "gpu"] = Field("cpu", description="where the copies of the model run; openvino's on cpu")
    gpus: tuple[int, ...] = Field((), description="GPU indices; none: all of them")
    max_queue_size: int = Field(0, ge=0, le=1_000_000, description="requests that may wait; 0: any number")
    timeout_us: int = Field(0, ge=0, le=3_600_000_000, description="longest wait in the queue, microseconds; 0: any")
    timeout_action: Literal["reject", "delay"] = Field(
        "reject", description="of a request past its time: answer with an error, or serve it after all others"
    )
    threads: int = Field(0, ge=0, le=1024, description="of each copy, within an operator; 0: the server chooses")
    inter_op_threads: int = Field(0, ge=0, le=1024, description="ONNX Runtime's across operators; 0: as above")
    execution_mode: Literal["sequential", "parallel"] = Field("sequential", description="of ONNX Runtime's operators")
    warmup: Literal["off", "random", "zero"] = Field("random", description="images run before the model is ready")
    version_policy: Literal["latest", "all", "specific"] = Field("latest", description="which versions are served")
    latest: int = Field(1, ge=1, le=1000, description="how many of the newest versions `latest` serves")
    versions: tuple[int, ...] = Field((), description="the versions `specific` serves", validate_default=True)

    @field_validator("preferred")
    @classmethod
    def _preferred_fit(cls, sizes: tuple[int, ...], others: ValidationInfo) -> tuple[int, ...]:
        largest = others.data.get("max_batch", 4096)
        if any(not 1 <= size <= largest for size in sizes) or len(set(sizes)) < len(sizes):
            raise ValueError(f"expected different batch sizes from 1 to max_batch, which is {largest}")
        return sizes

    @field_validator("precision", "kind", "inter_op_threads", "execution_mode")
    @classmethod
    def _backend_has_it(cls, value: str | int, others: ValidationInfo) -> str | int:
        name, is_openvino = str(others.field_name), others.data.get("backend") == "openvino"
        default, of_openvino = cls.model_fields[name].default, name == "precision"
        if value != default and is_openvino != of_openvino:
            raise ValueError(f"expected {default}: {'only' if of_openvino else 'not'} backend openvino takes another")
        return value

    @field_validator("gpus")
    @classmethod
    def _gpus_fit(cls, indices: tuple[int, ...], others: ValidationInfo) -> tuple[int, ...]:
        if any(index < 0 for index in indices) or len(set(indices)) < len(indices):
            raise ValueError("expected different GPU indices from 0 on")
        if indices and others.data.get("kind") == "cpu":
            raise ValueError("expected none, for kind is cpu")
        return indices

    @field_validator("versions")
    @classmethod
    def _versions_fit(cls, numbers: tuple[int, ...], others: ValidationInfo) -> tuple[int, ...]:
        wanted = others.data.get("version_policy") == "specific"
        if any(number < 1 for number in numbers) or wanted != bool(numbers):
            raise ValueError("expected version numbers from 1 on if version_policy is specific, else none")
        return numbers


class RunConfig(Config):
    """Everything one command works with, resolved; every run writes it beside its results."""

    data: DataConfig
    model: SerializeAsAny[ModelConfig]
    train: SerializeAsAny[TrainConfig]
    gpu: GpuConfig


GROUP_MODELS: dict[str, type[BaseModel]] = dict(
    zip(GROUPS, (DataConfig, ModelConfig, TrainConfig, GpuConfig, ServeConfig), strict=True)
)
RUN_GROUPS = tuple(RunConfig.model_fields)  # those a run's config holds
_NAMES: dict[str, Any] = {group: (str | None, Field(None, min_length=1)) for group in GROUPS}
# `configs/defaults.yaml`: the name each group has where a command gives none; a project's may leave some out.
Defaults = create_model("Defaults", __base__=Config, **_NAMES)
