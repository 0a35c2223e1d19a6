"""A split, decoded once, answered by a model and measured: the network in training, a checkpoint, an exported graph."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.data.batches import CachedImages, Images
from nanocv_cli.data.cache import cache_entry, cached_split
from nanocv_cli.data.dataset import Dataset
from nanocv_cli.data.labels.base import Label
from nanocv_cli.data.row_cache import cached_bytes, is_whole
from nanocv_cli.data.stream import StreamedImages
from nanocv_cli.display import Display
from nanocv_cli.models.device import autocast
from nanocv_cli.tasks.base import Task, named_outputs
from nanocv_cli.tasks.evaluator import EvalContext, Evaluator, Outputs

Answer = Callable[[Mapping[str, NDArray[Any]]], Outputs]
Progress = Callable[[int, int], None]

NO_CONTEXT = EvalContext()
WARNINGS_SHOWN = 10


@dataclass(frozen=True)
class Split:
    """The images of a split, their targets [n,...], and the labels that those are made of."""

    images: Images
    targets: NDArray[Any]
    labels: tuple[Label, ...] = ()


def load_split(
    dataset: Dataset[Any], split: str, task: Task, cache: Path, size: int, resize: str, display: Display
) -> Split:
    """One split's images: mapped, decoded at first use, which says what could not be read; or streamed.

    They stream where the cache would grow beyond the bound of the set.
    """
    samples = dataset.split(split)
    entry, needed = cache_entry(cache, samples, size, resize), len(samples) * size * size * 3
    if not is_whole(entry):
        kept_already = cached_bytes(cache, entry)
        if needed + kept_already > dataset.cache_gb * 1e9:
            display.say(
                f"{split} streams: {needed / 1e9:,.2f} GB decoded, beside {kept_already / 1e9:,.2f} GB in {cache}, "
                f"are more than data.cache_gb={dataset.cache_gb:g}"
            )
            streamed = StreamedImages(samples, size, resize, display.say)
            return Split(streamed, task.targets(samples, size, resize, cache, display.say), samples.labels)
    with display.bar(f"decoding {split}") as progress:
        cached = cached_split(cache, samples, size, resize, progress, display.say)
    for path, reason in cached.unreadable[:WARNINGS_SHOWN]:
        display.say(f"warning: left out of {split}: {path}: {reason}")
    if len(cached.unreadable) > WARNINGS_SHOWN:
        display.say(f"warning: {len(cached.unreadable)} unreadable images in {split}; nanocv data check names all")
    kept = samples if cached.kept is None else samples.take(cached.kept)
    targets = task.targets(kept, size, resize, cache, display.say)
    return Split(CachedImages(cached.rows, cached.kept), targets, kept.labels)


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
    part: tuple[int, int] = (0, 1),
) -> Evaluator:
    """Runs `answer` over a split, or over one process's part of it, in order and returns the filled evaluator.

    Args:
        task: whose evaluator to use.
        answer: the model.
        images: the split.
        classes: class names in label order.
        model: what is evaluated.
        context: what the evaluator may use.
        batch_size: images per call.
        progress: called with (done, n).
        part: its number and how many there are: all images are in one of them, in order; batches stay whole, and so
            each image's answer is the same.
    """
    evaluator = task.evaluator(classes, model, context)
    starts, (number, parts) = range(0, len(images.images), batch_size), part
    for start in starts[len(starts) * number // parts : len(starts) * (number + 1) // parts]:
        # A copy: torch refuses to share read-only memory without a warning.
        batch, targets = (np.array(rows[start : start + batch_size]) for rows in (images.images, images.targets))
        evaluator.update(answer(task.graph_inputs(batch, targets, start)), targets, batch)
        if progress:
            progress(start + len(batch), len(images.images))
    return evaluator
