"""Measures a model on a split: one evaluator judges the network in training, a checkpoint and an exported graph."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.evaluation.split import Split
from nanocv_cli.models.device import autocast
from nanocv_cli.tasks.base import EvalContext, Evaluator, Outputs, Task, named_outputs

Answer = Callable[[Mapping[str, NDArray[Any]]], Outputs]
Progress = Callable[[int, int], None]

NO_CONTEXT = EvalContext()


def torch_answer(task: Task, export_model: nn.Module, device: torch.device, precision: str = "fp32") -> Answer:
    """An export model as a function from what the task feeds it to named outputs."""

    def answer(graph_inputs: Mapping[str, NDArray[Any]]) -> Outputs:
        with torch.inference_mode(), autocast(device, precision):
            inputs = [torch.from_numpy(array).to(device) for array in graph_inputs.values()]
            return named_outputs(task, export_model(*inputs))

    return answer


def evaluate(
    task: Task,
    answer: Answer,
    images: Split,
    classes: tuple[str, ...],
    model: ModelConfig,
    context: EvalContext = NO_CONTEXT,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Evaluator:
    """Runs `answer` over a split in order and returns the filled evaluator.

    Args:
        task: whose evaluator to use.
        answer: the model.
        images: the split.
        classes: class names in label order.
        model: what is evaluated.
        context: what the evaluator may use.
        batch_size: images per call.
        progress: called with (done, n).
    """
    evaluator = task.evaluator(classes, model, context)
    for start in range(0, len(images.images), batch_size):
        # A copy: torch refuses to share read-only memory without a warning.
        batch, targets = (np.array(rows[start : start + batch_size]) for rows in (images.images, images.targets))
        evaluator.update(answer(task.graph_inputs(batch, targets, start)), targets, batch)
        if progress:
            progress(start + len(batch), len(images.images))
    return evaluator
