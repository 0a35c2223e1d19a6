"""timm's classifiers behind the door: any of its names, no other, its weights by its hub alone, and offline after."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("timm", reason="not installed: timm")

import safetensors.torch
import timm
import torch
from torch import Tensor

import nanocv_cli
from nanocv_cli.analysis.analysed_model import Query, analyse, find_analysed_model
from nanocv_cli.config.loader import resolve
from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.errors import ConfigError, MissingExtraError, ModelError, as_failure
from nanocv_cli.models.checkpoint import load_network
from nanocv_cli.models.registry import build_model, without_weights
from nanocv_cli.models.timm_networks import create
from tests.conftest import Command
from tests.engine.hub_server import Hub, hub_server

# What timm was trained on by the weights that the tests publish.
NORMALISED = ("model.mean=[0.5, 0.5, 0.5]", "model.std=[0.5, 0.5, 0.5]")
REPOSITORY = "timm/test_resnet.r160_in1k"


def config(name: str, *overrides: str) -> ModelConfig:
    return resolve(model=f"timm/{name}", overrides=overrides).config.model


@pytest.mark.parametrize(
    ("name", "size"),
    [("test_resnet", 64), ("test_efficientnet.r160_in1k", 96), ("test_vit", 80), ("mobilenetv4_conv_small", 224)],
)
def test_a_classifier_reads_the_size_of_its_config_and_has_the_right_head(name: str, size: int) -> None:
    chosen = config(name, f"model.input_size={size}")
    assert (chosen.name, chosen.architecture, chosen.source) == (f"timm-{name}", name, "timm")
    network = without_weights(partial(build_model, chosen, 7))
    assert network(torch.empty(2, 3, size, size, device="meta")).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        (
            "mobilenetv4_conv_smal",
            "no network 'mobilenetv4_conv_smal'",
            "did you mean timm/mobilenetv4_conv_small?",
        ),
        ("hf-hub:timm/resnet18.a1_in1k", "has no network", "timm.list_models()"),
        ("local-dir:/tmp", "has no network", "timm.list_models()"),
        ("../../x", "has no network", "timm.list_models()"),
        ("", "has no network", "timm.list_models()"),
        ("test_resnet.r16_in1k", "has no weights 'test_resnet.r16_in1k'", "did you mean r160_in1k?"),
    ],
)
def test_another_name_is_refused_with_the_nearest(name: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build_model(config("test_resnet").model_copy(update={"architecture": name}), 3)
    assert message in refused.value.message and hint in refused.value.hint


def test_what_timm_cannot_build_is_answered() -> None:
    with pytest.raises(ConfigError, match="timm cannot build test_vit for 32x32 images: ") as refused:
        create("test_vit", config("test_vit", "model.input_size=32"), features_only=True, out_indices=(99,))
    assert refused.value.hint == "--set model.input_size=160"
    with pytest.raises(ConfigError, match="needs at least 32"):
        build_model(config("test_resnet", "model.input_size=16"), 3)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError) as missing:
        build_model(config("test_resnet"), 3)
    failure = as_failure(missing.value)
    assert isinstance(failure, MissingExtraError) and failure.hint == "pip install 'nanocv[timm]'"


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, project: Path) -> Iterator[tuple[Hub, dict[str, Tensor]]]:
    """timm's hub on loopback with weights of `test_resnet` for its 1,000 classes, and those weights."""
    torch.manual_seed(5)
    state = timm.create_model("test_resnet").state_dict()
    made = Hub(repository=REPOSITORY, files={"model.safetensors": safetensors.torch.save(state)})
    with hub_server(made) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        yield made, state


def test_weights_of_timms_hub_are_taken_but_for_the_head(published: tuple[Hub, dict[str, Tensor]]) -> None:
    hub, state = published
    found = build_model(config("test_resnet", "model.pretrained=true", *NORMALISED), 3).state_dict()
    assert found["fc.weight"].shape[0] == 3
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items() if not name.startswith("fc."))
    # The same backbone under a detector.
    sets = ("model.args.backbone=timm/test_resnet", "model.pretrained=true", "model.input_size=64", *NORMALISED)
    detector = build_model(resolve(model="nanospot", overrides=sets).config.model, 3).state_dict()
    assert torch.equal(detector["backbone.body.model.layer4.0.conv1.weight"], state["layer4.0.conv1.weight"])
    assert len([path for _, path, _ in hub.asked if "/resolve/" in path]) == 1  # kept since


def test_weights_that_saw_images_otherwise_are_refused(published: tuple[Hub, dict[str, Tensor]]) -> None:
    with pytest.raises(ConfigError, match="normalised otherwise") as refused:
        build_model(config("test_resnet", "model.pretrained=true"), 3)
    assert refused.value.hint == "--set 'model.mean=[0.5, 0.5, 0.5]' --set 'model.std=[0.5, 0.5, 0.5]'"
    assert not published[0].asked


def test_pickles_are_not_fetched_and_a_hub_that_is_away_is_one_line(
    published: tuple[Hub, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, _ = published
    hub.files = {"pytorch_model.bin": b"a pickle"}
    wanted = config("test_resnet", "model.pretrained=true", *NORMALISED)
    with pytest.raises(ModelError, match=r"has no file \*.safetensors") as refused:
        build_model(wanted, 3)
    assert "--from FILE.safetensors" in refused.value.hint
    assert not any("/resolve/" in path for _, path, _ in hub.asked)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ModelError, match=r"test_resnet could not be had: .* does not answer as a hub"):
        build_model(wanted, 3)


@pytest.mark.slow(5)
def test_the_whole_road_from_a_file_of_timms_weights(
    nanocv: Command, project: Path, tiny_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained from it, checked as a graph, analysed, and opened again with no hub to ask."""
    source = timm.create_model("test_efficientnet")
    safetensors.torch.save_file(source.state_dict(), project / "model.safetensors")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    sets = [
        "model.input_size=32",
        "train.epochs=1",
        "train.batch_size=8",
        "train.precision=fp32",
        "model.pretrained=true",
    ]
    run = nanocv("train", "--data", tiny_set, "--model", "timm/test_efficientnet", "--from", "model.safetensors",
                 *(word for pair in sets for word in ("--set", pair)), "--out", "runs/one", "--json")  # fmt: skip
    assert run.code == 0, run.err
    assert run.document["start"]["new_layers"] == ["classifier"] and run.document["parity"]["max_abs_error"] < 1e-3
    card = nanocv_cli.load("runs/one").card
    assert card.name == "timm-test_efficientnet" and card.config["model"]["source"] == "timm"
    network, opened, _ = load_network(project / "runs/one/checkpoints/best.safetensors")
    assert opened.source == "timm" and network.training is False
    assert nanocv("infer", next(tiny_set.rglob("*.png")), "--model", "runs/one").code == 0
    of_run = analyse(find_analysed_model(Query("runs/one"), project))
    of_name = analyse(find_analysed_model(Query("timm/test_efficientnet", classes=3, input_size=32), project))
    assert of_run.params == of_name.params == sum(p.numel() for p in network.parameters())
    assert sum(layer.flops() for layer in of_run.layers) == sum(layer.flops() for layer in of_name.layers) > 0
