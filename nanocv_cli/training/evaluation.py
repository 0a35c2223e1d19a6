"""Measures a model on a split: one evaluator judges the network in training, a checkpoint and an exported graph."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nanocv_cli.tasks.base import Evaluator, Outputs, Task, named_outputs
from nanocv_cli.training.device import autocast

Answer = Callable[[NDArray[np.uint8]], Outputs]
Progress = Callable[[int, int], None]


def torch_answer(task: Task, deployable: nn.Module, device: torch.device, precision: str = "fp32") -> Answer:
    """A deployable module as a function from uint8 [N,S,S,3] to named outputs."""

    def answer(images: NDArray[np.uint8]) -> Outputs:
        with torch.inference_mode(), autocast(device, precision):
            return named_outputs(task, deployable(torch.from_numpy(images).to(device)))

    return answer


def evaluate(
    task: Task,
    answer: Answer,
    images: NDArray[np.uint8],
    targets: NDArray[np.generic],
    classes: tuple[str, ...],
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Evaluator:
    """Runs `answer` over a split in order and returns the filled evaluator.

    Args:
        task: whose evaluator to use.
        answer: uint8 [N,S,S,3] to named outputs.
        images: uint8 [n,S,S,3].
        targets: [n,...].
        classes: class names in label order.
        batch_size: pictures per call.
        progress: called with (done, n).
    """
    evaluator = task.evaluator(classes, images.shape[1])
    for start in range(0, len(images), batch_size):
        # A copy: torch refuses to share read-only memory without a warning.
        batch = np.array(images[start : start + batch_size])
        evaluator.update(answer(batch), targets[start : start + batch_size])
        if progress:
            progress(start + len(batch), len(images))
    return evaluator
