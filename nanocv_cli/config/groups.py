"""The groups a config is made of, each with its typed model, and the names a bare command takes."""

from pydantic import BaseModel, Field

from nanocv_cli.config.schema import Config, DataConfig, GpuConfig, ModelConfig, ServeConfig, TrainConfig

GROUP_MODELS: dict[str, type[BaseModel]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "train": TrainConfig,
    "gpu": GpuConfig,
    "serve": ServeConfig,
}
RUN_GROUPS = ("data", "model", "train", "gpu")  # those a run's config holds


class Defaults(Config):
    """`configs/defaults.yaml`: the name each group has where a command gives none; a project's may leave some out."""

    data: str | None = Field(None, min_length=1)
    model: str | None = Field(None, min_length=1)
    train: str | None = Field(None, min_length=1)
    gpu: str | None = Field(None, min_length=1)
    serve: str | None = Field(None, min_length=1)
