"""Measures a model on a split: one evaluator judges the network in training, a checkpoint and an exported graph."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.tasks.base import Evaluator, Means, Outputs, Task, named_outputs
from nanocv_cli.training.device import autocast
from nanocv_cli.training.session import Pictures

Answer = Callable[[Mapping[str, NDArray[Any]]], Outputs]
Progress = Callable[[int, int], None]

WITHOUT = Means()


def torch_answer(task: Task, deployable: nn.Module, device: torch.device, precision: str = "fp32") -> Answer:
    """A deployable module as a function from what the task feeds it to named outputs."""

    def answer(feeds: Mapping[str, NDArray[Any]]) -> Outputs:
        with torch.inference_mode(), autocast(device, precision):
            inputs = [torch.from_numpy(array).to(device) for array in feeds.values()]
            return named_outputs(task, deployable(*inputs))

    return answer


def evaluate(
    task: Task,
    answer: Answer,
    pictures: Pictures,
    classes: tuple[str, ...],
    model: ModelConfig,
    means: Means = WITHOUT,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Evaluator:
    """Runs `answer` over a split in order and returns the filled evaluator.

    Args:
        task: whose evaluator to use.
        answer: the model.
        pictures: the split.
        classes: class names in label order.
        model: what is judged.
        means: what the evaluator may use.
        batch_size: pictures per call.
        progress: called with (done, n).
    """
    evaluator = task.evaluator(classes, model, means)
    for start in range(0, len(pictures.images), batch_size):
        # A copy: torch refuses to share read-only memory without a warning.
        batch, targets = (np.array(rows[start : start + batch_size]) for rows in (pictures.images, pictures.targets))
        evaluator.update(answer(task.feeds(batch, targets, start)), targets, batch)
        if progress:
            progress(start + len(batch), len(pictures.images))
    return evaluator
