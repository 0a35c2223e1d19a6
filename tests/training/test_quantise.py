"""Quantisation-aware fine-tuning as the user runs it: from a run to a graph in int8 that answers as the run does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import safetensors.torch
import torch
from torch import nn

from nanocv_cli.config.loader import resolve
from nanocv_cli.engine.graph import Graph
from nanocv_cli.errors import ExportError
from nanocv_cli.exporting import graph_file
from nanocv_cli.models.checkpoint import read_card
from nanocv_cli.models.quantised import quantise_layers
from nanocv_cli.models.registry import build_model
from nanocv_cli.tasks.table import task_for
from nanocv_cli.training import train
from nanocv_cli.training.distributed import ProcessGroup
from nanocv_cli.training.epoch import learn_epoch
from nanocv_cli.training.learner import Learner
from nanocv_cli.training.run_directory import RunDirectory
from tests.conftest import Command, TrainedRun, training_run
from tests.training.weights import same_weights

SETS = ("train.quantise=int8", "train.epochs=2", "train.batch_size=40", "train.ema_decay=0.9")
SETTINGS = [word for pair in SETS for word in ("--set", pair)]


@pytest.fixture(scope="module")
def quantised(trained: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainedRun]:
    """The run of `trained`, tuned for int8; its project is the current one."""
    root = tmp_path_factory.mktemp("quantised")
    with training_run(root, trained.data, "--from", trained.folder, *SETTINGS) as run:
        yield run


@pytest.mark.slow(5)
def test_weights_and_graph_are_int8_and_answer_alike(
    quantised: TrainedRun, trained: TrainedRun, nanocv: Command
) -> None:
    assert quantised.summary["metrics"]["top1"] >= 0.9
    assert quantised.summary["start"]["taken"]["tensors"] == 32
    # Inputs have a range more than the layers of the source have tensors; all else is the same.
    names = [set(safetensors.torch.load_file(run.checkpoint)) for run in (quantised, trained)]
    assert names[0] > names[1] and all(".inputs." in name for name in names[0] - names[1])
    for card in (read_card(quantised.checkpoint), Graph(quantised.graph).card):
        assert (card.precision, card.config["train"]["quantise"]) == ("int8", "int8")
        assert card.metrics == quantised.summary["metrics"]
    kinds = [node.op_type for node in onnx.load(quantised.graph).graph.node]
    assert kinds.count("QuantizeLinear") == 6 and "BatchNormalization" not in kinds
    assert quantised.graph.stat().st_size < 0.4 * trained.graph.stat().st_size
    top1 = {
        engine: nanocv("eval", "--model", quantised.folder, "--data", quantised.data, "--engine", engine,
                       "--json").document["metrics"]["top1"]
        for engine in ("torch", "onnxruntime", "openvino")
    }  # fmt: skip
    assert top1["torch"] == quantised.summary["metrics"]["top1"]
    assert min(top1.values()) >= 0.9


def test_a_killed_run_is_resumed_to_the_same_bits(
    quantised: TrainedRun, trained: TrainedRun, nanocv: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwritten(*_: Any) -> None:
        raise ExportError("weights are what is looked at")

    def killed(*arguments: Any) -> None:
        if arguments[3].epoch == dies_in:
            raise KeyError
        learn_epoch(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(train, "learn_epoch", killed)
        patch.setattr(RunDirectory, "_unmake", lambda run: None)
        patch.setattr(RunDirectory, "_has_learnt", lambda run: False)
        # Before ranges are in any checkpoint, and after the first epoch.
        dies_in = 0
        asked = ["train", "--data", trained.data, "--from", trained.folder, *SETTINGS]
        assert nanocv(*asked, "--out", "runs/killed").code == 1
        dies_in = 1
        assert nanocv("train", "--resume", "runs/killed").code == 1
    monkeypatch.setattr(graph_file, "export_graph", unwritten)
    resumed = nanocv("train", "--resume", "runs/killed")
    assert resumed.code == 1 and "weights are what is looked at" in resumed.err
    for name in ("best", "last"):
        checkpoint = f"checkpoints/{name}.safetensors"
        assert same_weights(quantised.folder / checkpoint, Path("runs/killed") / checkpoint)


@pytest.mark.slow(3)
def test_its_graph_is_exported_in_int8_and_in_nothing_else(
    quantised: TrainedRun, nanocv: Command, tmp_path: Path
) -> None:
    for name in ("fp32", "fp16"):
        refused = nanocv("export", "onnx", "--model", quantised.folder, "--precision", name, "--json")
        assert refused.code == 2
        assert "was trained in int8 (train.quantise)" in refused.document["error"]["message"]
    done = nanocv("export", "onnx", "--model", quantised.folder, "--precision", "int8", "--out", tmp_path / "x.onnx",
                  "--json")  # fmt: skip
    assert done.code == 0, done.err
    assert "nothing is quantised again" in done.err
    assert (done.document["precision"], done.document["drop"], done.document["kept"]) == ("int8", 0.0, [])
    assert Graph(tmp_path / "x.onnx").card == Graph(quantised.graph).card
    # Compared in fp32 whatever the format, so that no processor decides.
    pair = nanocv("export", "openvino", "--model", quantised.folder, "--out", tmp_path / "x.xml", "--json")
    assert pair.code == 0 and pair.document["parity"] == done.document["parity"], pair.err


class Member(ProcessGroup):
    """A process whose leader has 7 everywhere."""

    def take_leaders(self, module: nn.Module) -> nn.Module:
        for tensor in module.state_dict().values():
            tensor.fill_(7.0)
        return module


def test_every_process_of_a_group_goes_on_with_the_leaders_ranges() -> None:
    config = resolve(model="lenet", overrides=("model.input_size=32", "train.ema_decay=0.9")).config
    network = quantise_layers(build_model(config.model, 2))
    learner = Learner(network, task_for("classification"), config, torch.device("cpu"), "fp32", Member())
    learner.learn(torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8), torch.tensor([0, 1, 0, 1]), 0, 0, 1)
    state = network.state_dict()
    assert all((state[name] == 7.0).all() == (".inputs." in name) for name in state)
    assert learner.average is not None and learner.average.state["classifier.inputs.high"] > 6.0


def test_a_sampler_is_refused_where_the_key_stands(nanocv: Command, project: Path, tiny_set: Path) -> None:
    (project / "mine.yaml").write_text("name: mine\nepochs: 2\nquantise: int8\n")
    for asked in (["--train", "mine.yaml"], ["--set", "train.quantise=int8"]):
        refused = nanocv("train", "--data", tiny_set, "--model", "nanoflow", *asked)
        assert refused.code == 2
        assert "the loop of a sampler" in refused.err and ("mine.yaml:3" in refused.err) == (asked[0] == "--train")
