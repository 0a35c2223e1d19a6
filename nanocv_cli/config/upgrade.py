"""Configs as earlier versions wrote them into runs and model cards, as this one reads them.

Until 2026-11 each section held the keys of all tasks and networks, read or not, and `model.args` was not there: by that
they are known. What the owner of the section does not read is left out, `dropout` moves into `args`, and `min_scale`
where it was uniform in area is called `min_area`.
"""

from copy import deepcopy
from typing import Any

from nanocv_cli.config.expected_type import fields_at
from nanocv_cli.config.located import Located
from nanocv_cli.config.nearest import FORMER_NAMES
from nanocv_cli.config.owners import model_class, recipe_class
from nanocv_cli.rooms import is_task


def upgraded(located: Located) -> Located:
    """A run's config of any version; what is wrong in it stays, to be told of by the validation.

    Args:
        located: its sections `data`, `model`, `train`, `gpu`.
    """
    model, train = located.values.get("model"), located.values.get("train")
    if not isinstance(model, dict):
        return located
    values = {**located.values, "model": upgraded_model(model)}
    if "args" not in model and isinstance(train, dict) and is_task(str(model.get("task"))):
        values["train"] = _upgraded_recipe(train, str(model["task"]))
    return Located(values, located.places, located.start)


def upgraded_model(model: dict[str, Any]) -> dict[str, Any]:
    """The model section of a config or card of any version."""
    values = deepcopy(model)
    if isinstance(values.get("architecture"), str):
        values["architecture"] = FORMER_NAMES.get(values["architecture"], values["architecture"])
    if "args" in values:
        return values
    section = model_class(values.get("task"), values.get("source"), values.get("architecture"))
    dropout = values.pop("dropout", None)
    if dropout is not None and "dropout" in fields_at(section, ["args"]):
        values["args"] = {"dropout": dropout}
    for key in ("sampling", "classifier"):
        if key not in section.model_fields:
            values.pop(key, None)
    return values


def _upgraded_recipe(train: dict[str, Any], task: str) -> dict[str, Any]:
    values, section = deepcopy(train), recipe_class(task)
    for key in ("label_smoothing", "region_loss", "label_dropout"):
        if key not in section.model_fields:
            values.pop(key, None)
    augment = values.get("augment")
    if isinstance(augment, dict):
        known = fields_at(section, ["augment"])
        if "min_area" in known and "min_scale" in augment:
            augment["min_area"] = augment.pop("min_scale")
        for key in ("zoom_out", "mosaic", "erase", "mix"):
            if key not in known:
                augment.pop(key, None)
    return values
