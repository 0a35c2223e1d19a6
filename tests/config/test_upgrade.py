"""Configs that earlier versions wrote are read, without the keys that nobody reads."""

from pathlib import Path

import pytest

from nanocv_cli.config.loader import load_resolved, resolve
from nanocv_cli.config.upgrade import upgraded_model
from nanocv_cli.config.yaml_lines import dump_yaml
from nanocv_cli.errors import ConfigError

# Of all sections, what the version of 2026-11-24 wrote that this one does not.
MODEL = {"dropout": 0.25, "sampling": {"steps": 12, "guidance": 1.5, "solver": "heun"}, "classifier": None}
TRAIN = {"label_smoothing": 0.05, "region_loss": 0.0, "label_dropout": 0.1}
AUGMENT = {
    "flip": False, "rescale": 0.25, "min_scale": 0.6, "aspect": 1.0, "zoom_out": 1.0, "mosaic": 0.0, "brightness": 0.2,
    "contrast": 0.2, "saturation": 0.0, "tint": 0.0, "erase": 0.0, "mix": 0.0,
}  # fmt: skip


def old_config(folder: Path, model: str, **changes: object) -> Path:
    document = resolve(model=model).config.model_dump(mode="json")
    document["model"].pop("args")
    document["model"] |= MODEL | changes
    document["train"] |= TRAIN | {"augment": AUGMENT}
    path = folder / "config.yaml"
    path.write_text(dump_yaml(document))
    return path


def test_a_classifier_keeps_what_it_reads(tmp_path: Path) -> None:
    config = load_resolved(old_config(tmp_path, "lenet"))
    wanted = resolve(
        model="lenet", overrides=["model.args.dropout=0.25", "train.augment.flip=false", "train.augment.min_area=0.6"]
    ).config
    assert config == wanted


def test_a_detector_keeps_the_law_of_its_scale(tmp_path: Path) -> None:
    config = load_resolved(old_config(tmp_path, "nanospot", architecture="nanodet", name="nanodet"))
    assert (config.model.architecture, config.model.name) == ("nanospot", "nanodet")
    assert config.train.augment.min_scale == 0.6  # type: ignore[attr-defined]
    assert "label_smoothing" not in type(config.train).model_fields


def test_a_generator_keeps_its_sampling(tmp_path: Path) -> None:
    config = load_resolved(old_config(tmp_path, "nanoflow"))
    assert config.model.sampling.steps == 12  # type: ignore[attr-defined]
    assert config.train.label_dropout == 0.1  # type: ignore[attr-defined]


def test_what_is_wrong_in_an_old_config_is_still_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.sise is not a known key"):
        load_resolved(old_config(tmp_path, "lenet", sise=3))


def test_a_new_section_is_left_as_it_is() -> None:
    section = {"architecture": "lenet", "task": "classification", "args": {}, "dropout": 0.5}
    assert upgraded_model(section) == section
