"""What is taken over from another checkpoint, what is refused, and that a run goes on without it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import nanocv_cli
from nanocv_cli.config.loader import resolve
from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.engine.card import METADATA_KEY, ModelCard
from nanocv_cli.errors import ModelError, RequestError
from nanocv_cli.models.checkpoint import save_tensors, save_weights
from nanocv_cli.models.registry import build_model
from nanocv_cli.training import train
from nanocv_cli.training.epoch import learn_epoch
from nanocv_cli.training.run_directory import RunDirectory
from nanocv_cli.training.run_list import read_run
from nanocv_cli.training.start import read_start, take
from tests.conftest import COLOURS, TINY, Command, TrainedRun, write_tiny_set
from tests.engine.hub_server import Hub, hub_server
from tests.training.weights import same_weights

THREE = ("a", "b", "c")
SETS = [word for pair in TINY for word in ("--set", pair)]


def config_of(name: str, *overrides: str) -> ModelConfig:
    return resolve(model=name, overrides=overrides).config.model


def network_of(name: str, classes: int, *overrides: str, seed: int = 0) -> tuple[nn.Module, ModelConfig]:
    torch.manual_seed(seed)
    config = config_of(name, *overrides)
    return build_model(config, classes), config


def write_checkpoint(path: Path, network: nn.Module, config: ModelConfig, **others: Any) -> Path:
    card = ModelCard(
        name=config.name,
        task=config.task,
        classes=("a", "b"),
        input_size=config.input_size,
        resize=config.resize,
        data="set",
        config={"model": config.model_dump(mode="json")},
        config_hash="0",
        **others,
    )
    save_weights(path, network.state_dict(), card)
    return path


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("lenet", ["classifier"]),
        ("nanores", ["classifier"]),
        ("nanospot", ["heads.0.classes", "heads.1.classes", "heads.2.classes"]),
        ("nanoseg", ["classifier"]),
        ("nanoflow", ["label"]),
    ],
)
def test_all_is_taken_but_what_depends_on_the_classes(tmp_path: Path, name: str, new: list[str]) -> None:
    source, config = network_of(name, 2, seed=1)
    checkpoint = write_checkpoint(tmp_path / "source.safetensors", source, config)
    network, _ = network_of(name, 3)
    before = copied(network.state_dict())
    start = take(checkpoint, "source", network, config, THREE)
    assert start.new_layers == new
    for key, tensor in network.state_dict().items():
        is_new = key.rpartition(".")[0] in new
        assert torch.equal(tensor, before[key] if is_new else source.state_dict()[key]), key
        assert is_new == (key not in start.names)
    parameters = sum(p.numel() for p in network.parameters())
    assert start.taken.parameters + start.new.parameters == parameters
    assert start.taken.tensors + start.left.tensors == len(source.state_dict())
    assert start.sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()


@pytest.mark.parametrize("classes", [("b", "a"), ("c", "d")])
@pytest.mark.parametrize("name", ["lenet", "nanospot", "nanoflow"])
def test_as_many_classes_of_other_names_need_a_new_head(tmp_path: Path, name: str, classes: tuple[str, ...]) -> None:
    source, config = network_of(name, 2, seed=1)
    checkpoint = write_checkpoint(tmp_path / "source.safetensors", source, config)
    assert take(checkpoint, "source", source, config, ("a", "b")).new.tensors == 0
    start = take(checkpoint, "source", source, config, classes)
    assert start.new == start.left and start.new.tensors > 0
    assert {"lenet": "classifier", "nanospot": "heads.0.classes", "nanoflow": "label"}[name] in start.new_layers


def test_what_is_taken_and_what_is_not_is_told_in_two_lines(trained: TrainedRun) -> None:
    network, config = network_of("lenet", 2, "model.input_size=32")
    assert take(trained.checkpoint, "mine", network, config, ("a", "b")).lines(0.1) == [
        "started from mine (lenet): 30 tensors of 393,104 parameters taken, at 0.1 of the rate",
        "new: 2 tensors of 514 parameters, in classifier; left behind: 2 tensors of 771 parameters",
    ]
    network, config = network_of("lenet", 3, "model.input_size=32")
    assert take(trained.checkpoint, "lenet", network, config, tuple(COLOURS)).lines(1.0) == [
        "started from lenet: 32 tensors of 393,875 parameters taken, at 1 of the rate"
    ]


def test_a_training_state_gives_what_it_would_answer_with(tmp_path: Path) -> None:
    network, config = network_of("lenet", 2)
    groups = {"network": torch.zeros_like, "average": torch.ones_like}
    states = {
        f"{group}:{name}": fill(tensor)
        for group, fill in groups.items()
        for name, tensor in network.state_dict().items()
    }
    for kept, value in (("average", 1.0), ("network", 0.0)):
        held = {name: tensor for name, tensor in states.items() if not name.startswith("average") or kept == "average"}
        save_tensors(tmp_path / "last.safetensors", held, {"nanocv.training": "{}"})
        take(tmp_path / "last.safetensors", "last", network, config, ("a", "b"))
        body = [parameter for name, parameter in network.named_parameters() if not name.startswith("classifier")]
        assert all((parameter == value).all() for parameter in body)


@pytest.mark.parametrize(
    ("name", "within"),
    [
        ("lraspp_mobilenet_v3_large", "network.backbone"),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", "network.backbone.body"),
    ],
)
def test_a_classifier_without_a_card_starts_a_backbone(tmp_path: Path, name: str, within: str) -> None:
    classifier, _ = network_of("mobilenet_v3_large", 2, seed=1)
    safetensors.torch.save_file(classifier.state_dict(), tmp_path / "plain.safetensors")
    network, config = network_of(name, 3)
    start = take(tmp_path / "plain.safetensors", "plain", network, config, THREE)
    assert (start.within, start.model) == (within, "")
    assert all(name.startswith(f"{within}.") for name in start.names)
    assert not any(layer.startswith(f"{within}.") for layer in start.new_layers)
    first = "0.0.weight"
    assert torch.equal(network.state_dict()[f"{within}.{first}"], classifier.state_dict()[f"features.{first}"])
    assert start.lines(0.1)[0].startswith(f"started from plain as {within}: ")


def test_another_architecture_is_refused_and_both_are_named(trained: TrainedRun) -> None:
    network, config = network_of("nanores", 3)  # whose classifier's bias would fit
    before = copied(network.state_dict())
    with pytest.raises(RequestError) as refused:
        take(trained.checkpoint, "mine", network, config, THREE)
    assert refused.value.message == "nothing of mine (lenet) fits nanores (nanores)"
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def newer(path: Path) -> None:
    with safetensors.safe_open(path, "pt") as file:
        card = json.loads(file.metadata()[METADATA_KEY])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_tensors(path, tensors, {METADATA_KEY: json.dumps(card | {"version": "99.0.1", "unheard": 1})})


def without_config(path: Path) -> None:
    with safetensors.safe_open(path, "pt") as file:
        card = json.loads(file.metadata()[METADATA_KEY])
    save_tensors(path, {"weight": torch.zeros(2, 2)}, {METADATA_KEY: json.dumps(card | {"config": {"model": [1]}})})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncated, "is no whole .safetensors file"),
        (without_config, "its model card is damaged"),
        (newer, f"was written by nanocv 99.0.1, which is newer than this {nanocv_cli.__version__}"),
    ],
)
def test_a_damaged_or_newer_file_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None], message: str, nanocv: Command, project: Path, tiny_set: Path
) -> None:
    network, config = network_of("lenet", 2)
    checkpoint = write_checkpoint(tmp_path / "source.safetensors", network, config)
    spoil(checkpoint)
    with pytest.raises(ModelError, match=r"source\.safetensors") as refused:
        take(checkpoint, "source", network, config, THREE)
    assert message in refused.value.message
    outcome = nanocv("train", "--data", tiny_set, "--from", checkpoint, "--out", "run")
    assert outcome.code == 1 and message in outcome.err and not (project / "run").exists()


def test_a_file_that_does_not_say_its_model_needs_one(nanocv: Command, project: Path, tiny_set: Path) -> None:
    safetensors.torch.save_file({"weight": torch.zeros(2, 2)}, project / "plain.safetensors")
    outcome = nanocv("train", "--data", tiny_set, "--from", "plain.safetensors")
    assert outcome.code == 2 and "plain.safetensors does not say which model it is" in outcome.err
    outcome = nanocv("train", "--data", tiny_set, "--model", "lenet", "--from", "plain.safetensors", "--out", "run")
    assert outcome.code == 2 and "nothing of plain.safetensors (no model card" in outcome.err
    assert not (project / "run").exists()


@pytest.mark.slow(9)
def test_a_started_run_goes_on_without_its_source_to_the_same_bits(
    trained: TrainedRun, nanocv: Command, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_tiny_set(project / "two", {"train": 12, "val": 4})
    for split in ("train", "val"):
        for image in (data / split / "red").iterdir():
            image.unlink()
        (data / split / "red").rmdir()
    source = project / "source.safetensors"
    source.write_bytes(trained.checkpoint.read_bytes())
    settings = [
        "train.batch_size=8",
        "train.epochs=2",
        "train.ema_decay=0.9",
        "train.freeze=[features.conv1, '*norm1']",
    ]
    sets = [word for pair in settings for word in ("--set", pair)]
    asked = ["train", "--data", data, "--from", source.name, *sets]
    whole = nanocv(*asked, "--out", "runs/whole", "--json")
    assert whole.code == 0, whole.err
    assert "432 of them frozen" not in whole.err and "464 of them frozen" in whole.err

    start = whole.document["start"]
    assert (start["reference"], start["model"], start["new_layers"]) == (source.name, "lenet", ["classifier"])
    assert start["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert start["taken"] == {"tensors": 30, "parameters": 393_104}
    assert nanocv_cli.load("runs/whole").card.config["model"]["input_size"] == 32  # the checkpoint's own model
    before, after = (
        safetensors.torch.load_file(path) for path in (source, project / "runs/whole/checkpoints/best.safetensors")
    )
    kept = {name for name in before if name.split(".")[1] in ("conv1", "norm1")}
    assert len(kept) == 6 and all(torch.equal(before[name], after[name]) for name in kept)
    assert not torch.equal(before["features.conv2.weight"], after["features.conv2.weight"])
    assert not torch.equal(before["features.norm2.running_mean"], after["features.norm2.running_mean"])

    # Killed before the first step, and again after the first epoch; the source is gone meanwhile.
    def killed(*arguments: Any) -> None:
        if arguments[3].epoch == dies_in:
            raise KeyError
        learn_epoch(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(train, "learn_epoch", killed)
        patch.setattr(RunDirectory, "_unmake", lambda run: None)
        patch.setattr(RunDirectory, "_has_learnt", lambda run: False)
        dies_in = 0
        assert nanocv(*asked, "--out", "runs/killed").code == 1
        source.unlink()
        dies_in = 1
        assert nanocv("train", "--resume", "runs/killed").code == 1
    resumed = nanocv("train", "--resume", "runs/killed", "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.document["start"] == start
    for name in ("best", "last"):
        checkpoint = f"checkpoints/{name}.safetensors"
        assert same_weights(project / "runs/whole" / checkpoint, project / "runs/killed" / checkpoint)
    cards = [nanocv_cli.load(f"runs/{name}").card for name in ("whole", "killed")]
    assert cards[0].config_hash == cards[1].config_hash

    assert read_run(project / "runs/whole", project).start == source.name
    assert nanocv("report", "runs/whole", "--out", "page.html").code == 0
    page = (project / "page.html").read_text()
    assert f"Started from {source.name}: 30 tensors of 393,104 parameters" in page
    assert f"--from {source.name}" in page and start["sha256"] in page


def test_a_started_run_that_learnt_nothing_leaves_nothing(
    trained: TrainedRun, nanocv: Command, project: Path, tiny_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "learn_epoch", lambda context, *others: read_start(context.run.path / "nowhere"))
    outcome = nanocv("train", "--data", tiny_set, "--from", trained.folder, "--out", "run")
    assert outcome.code == 1 and "started from" in outcome.err
    assert not (project / "run").exists()


def test_a_model_of_a_hub_starts_a_training_and_teaches_one(
    trained: TrainedRun, nanocv: Command, project: Path, tiny_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub", reason="not installed: huggingface_hub")
    monkeypatch.setattr(train, "learn_epoch", lambda context, *others: read_start(context.run.path / "nowhere"))
    with hub_server(Hub(files={"model.safetensors": trained.checkpoint.read_bytes()})) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        asked = ["train", "--data", tiny_set, "--from", "hf://me/lenet", "--set", "train.teacher=hf://me/lenet"]
        outcome = nanocv(*asked, "--out", "run")
        assert "started from hf://me/lenet (lenet): 32 tensors of 393,875 parameters taken" in outcome.err
        unknown = nanocv("train", "--data", tiny_set, "--from", "hf://me/other", "--out", "run")
        assert unknown.code == 2 and "has no model me/other" in unknown.err
    assert not (project / "run").exists()


@pytest.mark.slow(3)
def test_python_starts_from_a_model_too(trained: TrainedRun, project: Path, tiny_set: Path) -> None:
    with pytest.raises(RequestError, match=r"nothing of .* fits nanores"):
        nanocv_cli.train(str(tiny_set), "nanores", start=trained.folder, settings={"model.input_size": 32})
    settings = {"train.epochs": 1, "train.batch_size": 8, "train.taken_rate": 1e-6, "train.precision": "fp32"}
    run = nanocv_cli.train(str(tiny_set), start=trained.folder, settings=settings, device="cpu", out="run")
    assert run.metrics["top1"] == trained.summary["metrics"]["top1"]  # it is as good as what it started from
    assert run.summary["start"]["new"] == {"tensors": 0, "parameters": 0}
