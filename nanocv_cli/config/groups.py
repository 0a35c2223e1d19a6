"""The groups a config is made of, each with its typed model, and the names a bare command takes."""

from typing import Any

from pydantic import BaseModel, Field, create_model

from nanocv_cli.config.project import GROUPS
from nanocv_cli.config.schema import Config, DataConfig, GpuConfig, ModelConfig, RunConfig, ServeConfig, TrainConfig

GROUP_MODELS: dict[str, type[BaseModel]] = dict(
    zip(GROUPS, (DataConfig, ModelConfig, TrainConfig, GpuConfig, ServeConfig), strict=True)
)
RUN_GROUPS = tuple(RunConfig.model_fields)  # those a run's config holds
_NAMES: dict[str, Any] = {group: (str | None, Field(None, min_length=1)) for group in GROUPS}
# `configs/defaults.yaml`: the name each group has where a command gives none; a project's may leave some out.
Defaults = create_model("Defaults", __base__=Config, **_NAMES)
