"""Who reads a key, and that nobody is given one that he does not read."""

from pathlib import Path

import pytest
import torch

from nanocv_cli.config.loader import resolve
from nanocv_cli.config.owners import model_class, readers, recipe_class
from nanocv_cli.errors import ConfigError
from nanocv_cli.models.registry import build_model


@pytest.mark.parametrize(
    ("model", "key", "readers", "chosen"),
    [
        ("nanospot", "train.label_smoothing", "classification, segmentation", "detection"),
        ("nanospot", "train.augment.mix", "classification", "detection"),
        ("lenet", "train.augment.mosaic", "detection, segmentation", "classification"),
        ("lenet", "train.augment.min_scale", "detection, segmentation", "classification"),
        ("nanospot", "train.augment.min_area", "classification, generation", "detection"),
        ("lenet", "train.region_loss", "segmentation", "classification"),
        ("lenet", "model.sampling", "generation", "classification"),
        ("nanospot", "model.args.dropout", "lenet, nanores, nanoseg", "nanospot"),
        ("resnet18", "model.args.widths", "lenet, nanores, nanospot, nanoseg, nanoflow", "resnet18"),
    ],
)
def test_what_the_chosen_owner_does_not_read_is_refused(model: str, key: str, readers: str, chosen: str) -> None:
    with pytest.raises(ConfigError) as refused:
        resolve(model=model, overrides=[f"{key}=1"])
    assert refused.value.message == f"--set {key}=1: {key} is read by {readers}, not by {chosen}"
    assert "known keys:" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.dropout=0.1", "model.dropout is called model.args.dropout now"),
        ("model.args.colour=1", "model.args.colour is not a known key"),
    ],
)
def test_a_key_that_moved_or_never_was_is_told(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        resolve(model="lenet", overrides=[override])
    assert refused.value.message == f"--set {override}: {message}"
    assert "known keys:" in (refused.value.hint or "")


def test_a_key_in_a_file_is_refused_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("name: mine\nepochs: 1\nlabel_smoothing: 0.1\n")
    with pytest.raises(ConfigError, match=r"^mine\.yaml:3: train\.label_smoothing is read by classification"):
        resolve(model="nanospot", train="mine.yaml")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.args.widths=[1, 2, 3, 4]", "expected a list of 5 whole numbers"),
        ("model.args.kernel=4", "expected one of 3, 5, 7"),
        ("model.args.dropout=2", "expected a number >= 0 and <= 1"),
        ("model.args.widths=[0, 2, 3, 4, 5]", "expected a list of 5 whole numbers, each >= 1 and <= 4096"),
    ],
)
def test_what_a_network_cannot_be_built_with_is_refused(override: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        resolve(model="lenet", overrides=[override])


def test_limits_of_a_lists_items_and_of_its_length_are_told() -> None:
    told = {
        "nanospot": "a list of 4 whole numbers, each >= 2 and <= 4096 and a multiple of 2",
        "nanores": "a list of whole numbers, each >= 1 and <= 4096 that is not empty and of length <= 6",
    }
    for model, expected in told.items():
        with pytest.raises(ConfigError) as refused:
            resolve(model=model, overrides=["model.args.widths=[1, 3, 5, 7, 9, 11, 13]"])
        assert refused.value.message.endswith(f"expected {expected}")


@pytest.mark.parametrize(
    ("model", "overrides"),
    [
        ("lenet", ("model.input_size=32", "model.args.widths=[2, 2, 4, 4, 6]", "model.args.kernel=5")),
        ("nanores", ("model.input_size=32", "model.args.widths=[4, 6]", "model.args.depth=1", "model.args.stem=2")),
        ("nanospot", ("model.input_size=32", "model.args.widths=[4, 4, 6, 6]", "model.args.neck=4")),
        ("nanoseg", ("model.input_size=32", "model.args.widths=[4, 6, 8]", "model.args.decoder=4")),
        ("nanoflow", ("model.input_size=16", "model.args.widths=[8, 16]", "model.args.embedding=8")),
    ],
)
def test_a_network_is_built_as_its_arguments_say(model: str, overrides: tuple[str, ...]) -> None:
    plain = build_model(resolve(model=model).config.model, 3)
    config = resolve(model=model, overrides=overrides).config.model
    network = build_model(config, 3).eval()
    assert sum(p.numel() for p in network.parameters()) < sum(p.numel() for p in plain.parameters()) / 10
    with torch.no_grad():
        network(torch.zeros(2, 3, config.input_size, config.input_size))


def test_each_task_brings_its_own_classes() -> None:
    assert "label_smoothing" in recipe_class("classification").model_fields
    assert "label_smoothing" not in recipe_class("detection").model_fields
    assert "sampling" in model_class("generation", "nanocv", "nanoflow").model_fields
    assert model_class("classification", "torchvision", "resnet18").model_fields["args"].default_factory is not None
    assert readers("train", "epochs") == ["the training loop"]
    assert readers("train", "augment.flip") == ["classification", "detection", "segmentation", "generation"]
    assert readers("train", "nothing") == []
