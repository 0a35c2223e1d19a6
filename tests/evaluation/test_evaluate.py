"""A split that is evaluated in parts gives, put together, what it gives as a whole."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nanocv_cli.config.loader import resolve
from nanocv_cli.data.batches import CachedImages
from nanocv_cli.evaluation.evaluate import Split, evaluate
from nanocv_cli.tasks.base import Task
from nanocv_cli.tasks.evaluator import Evaluator, Outputs
from nanocv_cli.tasks.table import task_for

COUNT, SIDE, CLASSES = 50, 32, ("a", "b", "c")
Arrays = Mapping[str, NDArray[Any]]


def targets(task: str, chance: np.random.Generator) -> NDArray[Any]:
    if task == "segmentation":
        return chance.integers(0, 3, (COUNT, SIDE, SIDE)).astype(np.uint8)
    if task == "detection":
        corners = chance.uniform(0, 0.5, (COUNT, 3, 2))
        labels = chance.integers(-1, 3, (COUNT, 3, 1))
        return np.concatenate([corners, corners + 0.4, labels, np.zeros_like(labels)], 2).astype(np.float32)
    return chance.integers(0, 3, COUNT)


def outputs(task: str, count: int, chance: np.random.Generator) -> Outputs:
    if task == "segmentation":
        mask = chance.integers(0, 3, (count, SIDE, SIDE)).astype(np.uint8)
        return {"mask": mask, "confidence": chance.random(mask.shape)}
    if task == "detection":
        corners = chance.uniform(0, 0.5, (count, 5, 2))
        boxes = np.concatenate([corners, corners + 0.4], 2)
        return {"boxes": boxes, "scores": chance.random((count, 5)), "labels": chance.integers(0, 3, (count, 5))}
    if task == "generation":
        return {"image": chance.integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8)}
    return {"probabilities": chance.dirichlet(np.ones(3), count)}


@pytest.mark.parametrize("model", ["lenet", "nanospot", "nanoseg", "nanoflow"])
def test_parts_hold_each_image_once_and_make_the_whole(model: str) -> None:
    config = resolve(model=model).config.model
    task: Task = task_for(config.task)
    chance = np.random.default_rng(0)
    images = chance.integers(0, 256, (COUNT, SIDE, SIDE, 3)).astype(np.uint8)
    split = Split(CachedImages(images), targets(config.task, chance))
    seen: list[int] = []

    def evaluated(part: tuple[int, int]) -> Evaluator:
        def answer(inputs: Arrays) -> Outputs:
            given = next(iter(inputs.values()))
            seen.append(len(given))
            # The same for the same images, in whichever part they are.
            return outputs(config.task, len(given), np.random.default_rng(int(given.astype(np.int64).sum()) % 2**32))

        return evaluate(task, answer, split, CLASSES, config, batch_size=8, part=part)

    whole = evaluated((0, 1))
    assert seen == [8, 8, 8, 8, 8, 8, 2]
    first, *others = [evaluated((number, 3)) for number in range(3)]
    assert seen[7:] == seen[:7]
    for other in others:
        first.absorb(other.state())
    assert first.compute() == whole.compute()
    counts = np.ones((2, COUNT), np.int64)
    for name, values in whole.resampled(counts).items():
        np.testing.assert_array_equal(first.resampled(counts)[name], values)
    galleries = [one.exhibits(images).galleries for one in (whole, first)]
    for expected, found in zip(*galleries, strict=True):
        assert [shown.lines for shown in expected.images] == [shown.lines for shown in found.images]
