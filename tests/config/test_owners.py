"""Who reads a key, and that nobody is given one that he does not read."""

import pytest
import torch

from nanocv_cli.config.loader import resolve
from nanocv_cli.config.owners import model_class, readers, recipe_class
from nanocv_cli.errors import ConfigError
from nanocv_cli.models.registry import build_model


@pytest.mark.parametrize(
    ("model", "override", "message"),
    [
        ("nanospot", "train.label_smoothing=0.1", "train.label_smoothing is read by classification, segmentation, by"),
        ("nanospot", "train.augment.mix=0.1", "train.augment.mix is read by classification, by nothing configured"),
        ("lenet", "train.augment.mosaic=0.1", "train.augment.mosaic is read by detection, segmentation, by nothing"),
        ("lenet", "train.augment.min_scale=0.5", "train.augment.min_scale is read by detection, segmentation, by"),
        ("nanospot", "train.augment.min_area=0.5", "train.augment.min_area is read by classification, generation, by"),
        ("lenet", "train.region_loss=1", "train.region_loss is read by segmentation, by nothing configured here"),
        ("lenet", "model.sampling.steps=3", "model.sampling is read by generation, by nothing configured here"),
        ("nanospot", "model.args.dropout=0.1", "model.args.dropout is read by lenet, nanores, nanoseg, by nothing"),
        (
            "resnet18",
            "model.args.widths=[1]",
            "model.args.widths is read by lenet, nanores, nanospot, nanoseg, nanoflow",
        ),
        ("lenet", "model.dropout=0.1", "model.dropout is called model.args.dropout now"),
        ("lenet", "model.args.colour=1", "model.args.colour is not a known key"),
    ],
)
def test_what_the_chosen_owner_does_not_read_is_refused(model: str, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        resolve(model=model, overrides=[override])
    assert refused.value.message.startswith(f"--set {override}: {message}")
    assert "known keys:" in (refused.value.hint or "")


def test_a_key_in_a_file_is_refused_with_its_line(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
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
        ("model.args.widths=[0, 2, 3, 4, 5]", "expected a list of 5 whole numbers"),
    ],
)
def test_what_a_network_cannot_be_built_with_is_refused(override: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        resolve(model="lenet", overrides=[override])


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
