"""Every architecture behind the one door: shapes, sizes, and torchvision's weights where they can be had."""

import functools
import hashlib
import http.server
import threading
from itertools import product
from pathlib import Path

import pytest
import torch
from torchvision import models

from nanocv_cli.config.loader import resolve
from nanocv_cli.config.owners import model_class
from nanocv_cli.config.project import shipped_configs
from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.config.torchvision_names import (
    TORCHVISION_CLASSIFIERS,
    TORCHVISION_DETECTORS,
    TORCHVISION_SEGMENTERS,
)
from nanocv_cli.errors import ConfigError, ModelError
from nanocv_cli.models import published
from nanocv_cli.models.registry import build_model, without_weights
from nanocv_cli.rooms import BUILT_IN, room, task_names


def config(architecture: str, **values: object) -> ModelConfig:
    tables = (TORCHVISION_CLASSIFIERS, TORCHVISION_DETECTORS, TORCHVISION_SEGMENTERS)
    source = "torchvision" if any(architecture in table for table in tables) else "nanocv"
    chosen = model_class(values.get("task", "classification"), source, architecture)
    return chosen(name=architecture, architecture=architecture, source=source, **values)  # type: ignore[arg-type]


def test_lenet_is_the_network_of_the_design() -> None:
    network = build_model(config("lenet"), 4)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.weight.shape[:2] for m in convolutions] == [(16, 3), (32, 16), (64, 32), (128, 64), (256, 128)]
    assert all(m.kernel_size == (3, 3) and m.stride == (2, 2) for m in convolutions)
    linear = [m for m in network.modules() if isinstance(m, torch.nn.Linear)]
    assert [m.weight.shape for m in linear] == [(4, 7 * 7 * 256)]
    flops, features = [], torch.zeros(1, 3, 224, 224)
    for layer in network.features:
        features = layer(features)
        if isinstance(layer, torch.nn.Conv2d):
            flops.append(2 * layer.weight.numel() * features.shape[2] * features.shape[3] / 1e6)
    assert [round(f, 3) for f in flops] == [10.838, 28.901, 28.901, 28.901, 28.901]
    assert sum(p.numel() for p in network.parameters()) == 443_284


@pytest.mark.parametrize("size", [32, 96, 160])
def test_nanores_reads_any_size(size: int) -> None:
    network = build_model(config("nanores", input_size=size), 5).eval()
    assert network(torch.zeros(2, 3, size, size)).shape == (2, 5)


# regnet's builder computes with its weights' devices, so it cannot be built without memory; one is built for real.
@pytest.mark.slow(30)
@pytest.mark.parametrize("name", [n for n in TORCHVISION_CLASSIFIERS if not n.startswith("regnet")])
def test_every_torchvision_classifier_has_the_right_head(name: str) -> None:
    with torch.device("meta"):
        network = build_model(config(name), 7)
        for mode in (True, False):
            assert network.train(mode)(torch.zeros(2, 3, 224, 224)).shape == (2, 7)


def test_a_regnet_too() -> None:
    assert build_model(config("regnet_y_400mf"), 7).eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [("lenet", 100, "multiple of 32"), ("vit_b_16", 100, "cannot read 100x100"), ("inception_v3", 64, "at least 75")],
)
def test_a_size_it_cannot_read_is_answered(name: str, size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_model(config(name, input_size=size), 4)
    assert "--set model.input_size=" in caught.value.hint


def test_an_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        build_model(config("lenett"), 4)
    assert caught.value.hint == "did you mean lenet?"


def test_a_name_that_was_given_up_names_its_heir() -> None:
    with pytest.raises(ConfigError) as caught:
        build_model(config("nanodet"), 4)
    assert caught.value.hint == "nanodet is called nanospot now"


@pytest.fixture
def published_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Weights on a loopback server under a name that carries their hash, as torchvision publishes them."""
    state = models.squeezenet1_1(num_classes=1000).state_dict()
    site = tmp_path / "site"
    site.mkdir()
    torch.save(state, site / "weights.pth")
    digest = hashlib.sha256((site / "weights.pth").read_bytes()).hexdigest()[:8]
    (site / "weights.pth").rename(site / f"squeezenet-{digest}.pth")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/squeezenet-{digest}.pth"
    monkeypatch.setattr(published, "weights_url", lambda name: url)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return state


def test_pretrained_weights_are_downloaded_and_the_head_replaced(published_weights: dict[str, torch.Tensor]) -> None:
    network = build_model(config("squeezenet1_1", pretrained=True), 4)
    found = network.state_dict()
    assert found["classifier.1.weight"].shape[0] == 4
    backbone = [name for name in published_weights if name.startswith("features.")]
    assert backbone
    assert all(torch.equal(found[name], published_weights[name]) for name in backbone)


class Evil:
    """What a malicious weights file would hold."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("executed"),))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("task", "name", "size", "backbone"),
    [
        ("classification", "squeezenet1_1", 224, "squeezenet1_1"),
        ("detection", "ssdlite320_mobilenet_v3_large", 320, "mobilenet_v3_large"),
        ("segmentation", "lraspp_mobilenet_v3_large", 224, "mobilenet_v3_large"),
    ],
)
def test_weights_that_carry_code_are_refused(
    task: str, name: str, size: int, backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    for weights in models.get_model_weights(backbone):  # of both versions that torchvision has of them
        torch.save(Evil(), cache / Path(weights.url).name)
    with pytest.raises(ModelError, match="could not be had") as caught:
        build_model(config(name, task=task, input_size=size, pretrained=True), 4)
    assert "\n" not in caught.value.message
    assert not (tmp_path / "executed").exists()


def test_weights_that_cannot_be_had_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(published, "weights_url", lambda name: "http://127.0.0.1:9/squeezenet-00000000.pth")
    with pytest.raises(ModelError, match="could not be had") as caught:
        build_model(config("squeezenet1_1", pretrained=True), 4)
    assert "model.pretrained=false" in caught.value.hint


SHIPPED = sorted(path.stem for path in (shipped_configs() / "model").glob("*.yaml"))
# One of each kind of name; all others of torchvision are built above.
OWN = [network for one in BUILT_IN.values() for network in one.networks]
NAMES = [*OWN, "resnet18", "vit_b_16", "ssdlite320_mobilenet_v3_large", "maskrcnn_resnet50_fpn",
         "lraspp_mobilenet_v3_large", "lennet", "", "../../x", "a\nb"]  # fmt: skip


@pytest.mark.slow(6)
@pytest.mark.parametrize("shipped", SHIPPED)
def test_any_mixture_of_task_source_architecture_and_size_is_built_or_a_wrong_config(shipped: str) -> None:
    model = resolve(model=shipped).config.model
    kept = model.model_dump(exclude={"args", "sampling", "classifier"})
    for task, source, name, size in product(task_names(),
                                            ("nanocv", "torchvision"), NAMES, (model.input_size, 17)):  # fmt: skip
        changed = {"task": task, "source": source, "architecture": name, "input_size": size, "pretrained": False}
        try:
            mixed = model_class(task, source, name).model_validate({**kept, **changed})
            built = without_weights(functools.partial(build_model, mixed, 3))
        except ConfigError as error:
            assert error.hint
        else:
            assert isinstance(built, torch.nn.Module)
            assert source == "torchvision" or name in room(task).networks


def test_torchvision_is_refused_in_one_line_where_it_has_no_networks_for_the_task() -> None:
    with pytest.raises(ConfigError, match="torchvision, which has no networks for generation"):
        build_model(resolve(model="nanoflow", overrides=["model.source=torchvision"]).config.model, 3)
