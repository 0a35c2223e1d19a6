"""A teacher's answers: the same from checkpoint and graph, in the set's order, learnt from to the bit."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nanocv_cli
from nanocv_cli.config.loader import resolve
from nanocv_cli.errors import ConfigError, RequestError
from nanocv_cli.tasks.classification.config import Recipe
from nanocv_cli.tasks.classification.task import Classification, MixedLabels
from nanocv_cli.tasks.classification.teacher import distillation_loss, open_teacher
from nanocv_cli.training import train
from nanocv_cli.training.epoch import learn_epoch
from tests.conftest import COLOURS, TINY, Command, TrainedRun, draw_class_image
from tests.training.test_start import network_of, write_checkpoint
from tests.training.weights import same_weights

CPU = torch.device("cpu")
CLASSES = tuple(COLOURS)


def test_the_loss_of_a_case_done_by_hand() -> None:
    logits, taught = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 2.0], [7.0, 7.0]])
    own, wanted = np.array([np.e, 1.0]) / (np.e + 1.0), np.array([1.0, np.e]) / (np.e + 1.0)
    divergence = float((wanted * np.log(wanted / own)).sum()) / 2  # of the second image it is 0, whatever the constant
    assert distillation_loss(logits, taught, 2.0).item() == pytest.approx(4.0 * divergence, rel=1e-5)


def test_labels_and_teacher_share_the_loss() -> None:
    logits, taught = torch.randn(4, 3), torch.randn(4, 3)
    labels = torch.tensor([0, 1, 2, 0])

    def loss(weight: float, answers: torch.Tensor | None) -> float:
        recipe = Recipe(name="r", teacher_weight=weight, teacher_temperature=3.0)
        return Classification().loss(logits, MixedLabels(labels, labels, 1.0, answers), recipe).item()

    alone, distance = loss(0.7, None), distillation_loss(logits, taught, 3.0).item()
    assert loss(0.0, taught) == pytest.approx(alone)
    assert loss(1.0, taught) == pytest.approx(distance)
    assert loss(0.25, taught) == pytest.approx(0.75 * alone + 0.25 * distance)


def test_checkpoint_and_graph_teach_alike_in_the_order_of_the_set(trained: TrainedRun) -> None:
    images = torch.stack([torch.from_numpy(np.asarray(draw_class_image(name, 5, 32)).copy()) for name in CLASSES])
    student = resolve(model="lenet", overrides=["model.mean=[0.5, 0.4, 0.3]", "model.std=[0.2, 0.3, 0.4]"]).config.model
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (student.mean, student.std))
    inputs = (images.permute(0, 3, 1, 2) / 255 - mean) / std
    orders = [CLASSES, CLASSES[::-1]]
    answers = [
        open_teacher(str(path), order, CPU, trained.folder).logits(inputs, student).softmax(1)
        for path in (trained.checkpoint, trained.graph)
        for order in orders
    ]
    assert answers[0].argmax(1).tolist() == [0, 1, 2]
    for number, answer in enumerate(answers[1:], start=1):
        same = answer.flip(1) if number % 2 else answer
        assert torch.allclose(same, answers[0], atol=1e-4)
    # Of another size than it reads.
    larger = torch.nn.functional.interpolate(inputs, size=(64, 64), mode="bilinear")
    assert open_teacher(str(trained.checkpoint), CLASSES, CPU, trained.folder).logits(larger, student).shape == (3, 3)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("red", "blue"), "other classes than the set: it knows green"),
        (("red", "blue", "rose"), "it lacks rose and knows green"),
    ],
)
def test_a_teacher_of_other_classes_is_refused(trained: TrainedRun, classes: tuple[str, ...], message: str) -> None:
    for path in (trained.checkpoint, trained.graph):
        with pytest.raises(RequestError) as refused:
            open_teacher(str(path), classes, CPU, trained.folder)
        assert message in refused.value.message and refused.value.hint


def test_what_is_no_classifier_is_refused(tmp_path: Path) -> None:
    network, config = network_of("nanospot", 2, "model.input_size=64")
    detector = write_checkpoint(tmp_path / "detector.safetensors", network, config)
    for reference, message in [
        (str(detector), "is for detection, not for classification"),
        ("http://127.0.0.1:8000/lenet", "a teacher is a file"),
        ("nothing-of-this-name", "nothing-of-this-name"),
    ]:
        with pytest.raises(RequestError) as refused:
            open_teacher(reference, ("a", "b"), CPU, tmp_path)
        assert message in refused.value.message and refused.value.hint


@pytest.mark.parametrize("model", ["nanospot", "nanoseg", "nanoflow"])
def test_no_other_task_reads_a_teacher(model: str) -> None:
    with pytest.raises(ConfigError, match=r"teacher"):
        resolve(model=model, overrides=["train.teacher=lenet"])


@pytest.mark.slow(8)
def test_a_taught_run_goes_on_to_the_same_bits_and_names_its_teacher(
    trained: TrainedRun, nanocv: Command, project: Path, tiny_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = Path(shutil.copy(trained.graph, project / "teacher.onnx"))
    sets = [*TINY, "train.teacher=teacher.onnx", "train.augment.mix=0.5", "train.augment.erase=0.5"]
    asked = ["train", "--data", tiny_set, "--model", "lenet", *(word for pair in sets for word in ("--set", pair))]
    whole = nanocv(*asked, "--out", "runs/whole", "--json")
    assert whole.code == 0, whole.err
    named = {"teacher": {"reference": "teacher.onnx", "sha256": hashlib.sha256(teacher.read_bytes()).hexdigest()}}
    assert whole.document["companions"] == named
    card = nanocv_cli.load("runs/whole").card
    assert card.config["companions"] == named

    def killed(*arguments: Any) -> None:
        if arguments[3].epoch == 1:
            raise KeyError
        learn_epoch(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(train, "learn_epoch", killed)
        assert nanocv(*asked, "--out", "runs/killed").code == 1
    content = teacher.read_bytes()
    teacher.unlink()
    missing = nanocv("train", "--resume", "runs/killed")
    assert missing.code != 0 and "teacher.onnx" in missing.err
    shutil.copy("runs/whole/model.onnx", teacher)  # another that knows the same classes
    changed = nanocv("train", "--resume", "runs/killed")
    assert changed.code == 2 and "train.teacher: teacher.onnx has changed since" in changed.err
    teacher.write_bytes(content)
    note = (project / "runs/killed/companions.json").rename(project / "aside.json")
    unknown = nanocv("train", "--resume", "runs/killed")
    assert unknown.code == 2 and "companions.json is gone" in unknown.err
    note.rename(project / "runs/killed/companions.json")
    assert nanocv("train", "--resume", "runs/killed").code == 0
    for name in ("best", "last"):
        checkpoint = f"checkpoints/{name}.safetensors"
        assert same_weights(project / "runs/whole" / checkpoint, project / "runs/killed" / checkpoint)
    assert nanocv_cli.load("runs/killed").card.config_hash == card.config_hash
