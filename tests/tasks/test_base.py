"""What a task is unless its room says otherwise, and which epoch is the best."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nanocv_cli.config.loader import resolve
from nanocv_cli.data.batches import Share
from nanocv_cli.data.dataset import Sample, Samples
from nanocv_cli.data.labels.base import ClassLabel
from nanocv_cli.rooms import Score
from nanocv_cli.tasks.base import StepSettings, Task
from nanocv_cli.tasks.classification.task import Classification
from nanocv_cli.tasks.table import task_for


@pytest.mark.parametrize(
    ("score", "values", "kept"),
    [
        (Score("top1"), [0.5, 0.7, 0.7, 0.6], 1),
        (Score("mae", lowest_is_best=True), [2.0, 0.7, 0.7, 0.9], 1),
        (Score("coverage", last_is_best=True), [0.9, 0.7, 0.8], 2),
    ],
)
def test_the_best_epoch_is_the_first_of_the_best_value_or_the_last(
    score: Score, values: list[float], kept: int
) -> None:
    best, chosen = None, -1
    for epoch, value in enumerate(values):
        if score.better(value, best):
            best, chosen = value, epoch
    assert chosen == kept


def test_shares_are_told_as_percentages_and_other_values_as_they_are() -> None:
    assert Score("top1").shown(0.98765) == "98.77%"
    assert Score("mae", is_share=False).shown(1.25) == "1.2500"


def test_a_task_without_its_own_ways_is_no_task() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Task()  # type: ignore[abstract]


def test_by_default_labels_are_class_indices_and_the_graph_reads_images(tmp_path: Path) -> None:
    task = Classification()
    samples = Samples.of([Sample(tmp_path / f"{label}.png", ClassLabel(label)) for label in (2, 0)])
    targets = task.targets(samples, 8, "crop", tmp_path, print)
    assert (targets.tolist(), targets.dtype) == ([2, 0], np.int64)
    images = np.zeros((2, 8, 8, 3), np.uint8)
    assert task.graph_inputs(images, targets, 0).keys() == {"images"}
    assert task.parity_error({"a": np.array([1.0, 2.0])}, {"a": np.array([1.0, 2.5])}) == 0.5


TARGETS = {
    "lenet": torch.arange(10) % 4,
    "nanospot": torch.tensor([[[0.1, 0.1, 0.6, 0.7, 1, 0], [0.4, 0.3, 0.9, 0.9, 2, 0]]] * 10),
    "nanoseg": torch.randint(0, 3, (10, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)),
    "nanoflow": torch.arange(10) % 4,
}


@pytest.mark.parametrize(
    ("model", "mixes"),
    [("lenet", True), ("lenet", False), ("nanospot", True), ("nanospot", False), ("nanoseg", True), ("nanoseg", False),
     ("nanoflow", False)],
)  # fmt: skip
def test_shares_of_a_batch_are_augmented_as_the_whole_of_it(model: str, mixes: bool) -> None:
    config = resolve(model=model).config
    changes: dict[str, Any] = {"mosaic": 0.5} if model.startswith("nanos") else {"mix": 1.0, "erase": 0.5}
    changes = {key: value if mixes else 0.0 for key, value in changes.items()} if model != "nanoflow" else {}
    train = config.train.model_copy(update={"augment": config.train.augment.model_copy(update=changes)})  # type: ignore[attr-defined]
    task, targets = task_for(config.model.task), TARGETS[model]
    images = torch.randint(0, 256, (10, 40, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert task.mixes(train) == mixes

    def augmented(share: Share) -> Any:
        settings = StepSettings(32, torch.float32, config.model, train, torch.Generator().manual_seed(4), share)
        rows = slice(None) if mixes else slice(share.first, share.first + share.count)
        inputs, expected = task.augment(images[rows], targets[rows], settings)
        fields = [value for value in vars(expected).values() if isinstance(value, torch.Tensor)]
        return [inputs, *fields] if not isinstance(expected, torch.Tensor) else [inputs, expected[:, :2]]

    whole = augmented(Share(0, 10, 10))
    parts = [augmented(share) for share in Share(0, 10, 10).parts(3)]
    for expected, *found in zip(whole, *parts, strict=True):
        torch.testing.assert_close(torch.cat(found), expected, atol=1e-6, rtol=0)


def test_one_visit_augments_runs_the_network_and_gives_loss_and_metric() -> None:
    config = resolve().config
    called: list[tuple[Any, ...]] = []
    weights = torch.zeros(4, requires_grad=True)

    def forward(*inputs: Any) -> torch.Tensor:
        called.append(inputs)
        return weights.expand(len(inputs[0]), 4)

    images = torch.randint(0, 256, (3, 40, 40, 3), dtype=torch.uint8)
    settings = StepSettings(
        32, torch.float32, config.model, config.train, torch.Generator().manual_seed(0), Share(0, 3, 3)
    )
    loss, metric = Classification().training_step(forward, images, torch.tensor([0, 0, 1]), settings)
    ((inputs,),) = called
    assert inputs.shape == (3, 3, 32, 32)
    assert loss.item() == pytest.approx(np.log(4), abs=1e-5)
    assert loss.requires_grad and not metric.requires_grad
    assert metric.item() == 2
