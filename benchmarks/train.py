"""nanocv's whole training step against a bare loop, and against the recipes by which others train classifiers.

    python -m benchmarks.train [--models lenet,nanoseg] [--rounds 3] [--seconds 2] [--threads 1] [--profile]

All loops of a model train the same network on the CPU, in the same precision and batches, in turn; figures are medians
of images per second, and of the ratios of each round: by the clock, and by processor time, that of workers included,
which other programs on the machine disturb less (least with `--threads 1`: several wait for one another at work).

- bare: network, loss, gradients and the recipe's optimiser, on one batch in memory.
- nanocv: batches from the cache, brought ahead of the step as `nanocv train` does, augmentation, the step, the moving
  average, live metrics.
- torchvision, for classifiers: its references/classification/train.py with presets.py, by their defaults. Files are
  read by ImageFolder and cut, mirrored and normalised one by one in the workers of a DataLoader.
- timm, for classifiers, where it is installed: its train.py, likewise by its own defaults.

These two decode JPEGs of 256 pixels at every step, in as many workers as there are processors; nanocv has done that
once, before it trains (`benchmarks/cache.py` says what that costs). Ultralytics trains networks of its own alone, in
which the same network cannot be compared. On GPUs: `benchmarks/gpu.py`.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.gpu import CLASSES, MODELS, Case, Steps, config_of
from nanocv_cli.data.batches import Batches
from nanocv_cli.data.flowers.drawing import draw_image
from nanocv_cli.machine import keep_freed_memory, usable_processors
from nanocv_cli.models.device import autocast, pick_device, pick_precision

DRAWN, NAMES = 16, 32  # images, and files of each
WARM_UP = 1 / 3  # of a measurement: batches that workers have made meanwhile are not counted
LEAST = 2  # steps that are measured
PROFILED = 2  # times the seconds of a measurement
Loop = Iterator[None]


def write_files(folder: Path) -> None:
    """Writes flowers as JPEG files into class folders."""
    for number in range(DRAWN):
        place = folder / str(number % CLASSES)
        place.mkdir(parents=True, exist_ok=True)
        first = place / f"{number}-0.jpg"
        Image.fromarray(draw_image(0, "train", number, 256).image).save(first, quality=92)
        for name in range(1, NAMES):
            os.link(first, place / f"{number}-{name}.jpg")


def worker_loop(case: Case, loader: Iterable[Any], loss_of: nn.Module, optimiser: torch.optim.Optimizer,
                network: nn.Module) -> Loop:  # fmt: skip
    """The steps of a recipe whose batches come from workers."""
    network.train()
    while True:
        for images, labels in loader:
            with autocast(case.device, case.precision):
                outputs = network(images.contiguous(memory_format=torch.channels_last))
            loss = loss_of(outputs.float(), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            yield


def torchvision_loop(case: Case, folder: Path) -> Loop:
    """Torchvision's reference: ClassificationPresetTrain, SGD with momentum."""
    model, network = case.config.model, case.network()
    prepared = transforms.Compose(
        [
            transforms.RandomResizedCrop(model.input_size, antialias=True),
            transforms.RandomHorizontalFlip(0.5),
            transforms.PILToTensor(),
            transforms.ConvertImageDtype(torch.float),
            transforms.Normalize(model.mean, model.std),
        ]
    )
    loader = DataLoader(datasets.ImageFolder(folder, prepared), case.config.train.batch_size, shuffle=True,
                        num_workers=usable_processors(), drop_last=True, persistent_workers=True)  # fmt: skip
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    return worker_loop(case, loader, nn.CrossEntropyLoss(), optimiser, network)


def timm_loop(case: Case, folder: Path) -> Loop:
    """timm's training script: its loader, colour jitter and random interpolation among the defaults."""
    from timm.data import ImageDataset, create_loader
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2

    model, network = case.config.model, case.network()
    loader = create_loader(
        ImageDataset(str(folder)), (3, model.input_size, model.input_size), case.config.train.batch_size,
        is_training=True, use_prefetcher=False, hflip=0.5, color_jitter=0.4, interpolation="random", mean=model.mean,
        std=model.std, num_workers=usable_processors(), device=case.device,
    )  # fmt: skip
    optimiser = create_optimizer_v2(network, opt="sgd", lr=0.01, momentum=0.9, weight_decay=2e-5)
    return worker_loop(case, loader, LabelSmoothingCrossEntropy(0.1), optimiser, network)


@dataclass(frozen=True)
class Rate:
    """Steps per second.

    Attributes:
        clock: that have passed.
        processor: of all threads and workers.
    """

    clock: float
    processor: float


def processor_seconds() -> float:
    """Of this process and its workers so far."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children())]
    return sum(time.user + time.system for time in times)


def rate(loop: Loop, seconds: float) -> Rate:
    """How fast a loop is."""
    end = time.perf_counter() + WARM_UP * seconds
    while time.perf_counter() < end:
        next(loop)
    worked, start, count = processor_seconds(), time.perf_counter(), 0
    while time.perf_counter() - start < seconds or count < LEAST:
        next(loop)
        count += 1
    passed = time.perf_counter() - start
    return Rate(count / passed, count / (processor_seconds() - worked))


def compared(case: Case, folder: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """All loops of a model in turn."""
    steps, config = Steps(case), case.config
    loops = {"bare": steps.bare_loop(), "nanocv": steps.whole()}
    if config.model.task == "classification":
        loops["torchvision"] = torchvision_loop(case, folder)
        if find_spec("timm"):
            loops["timm"] = timm_loop(case, folder)
    for loop in loops.values():
        next(loop), next(loop)
    found = [{name: rate(loop, seconds) for name, loop in loops.items()} for _ in range(rounds)]
    for loop in loops.values():
        loop.close()  # type: ignore[attr-defined]
    batch = config.train.batch_size
    return {
        "model": config.model.name, "precision": case.precision, "batch": batch,
        "images_per_second": {name: batch * statistics.median(one[name].clock for one in found) for name in loops},
        "nanocv_over": {
            name: {
                "clock": statistics.median(one["nanocv"].clock / one[name].clock for one in found),
                "processor": statistics.median(one["nanocv"].processor / one[name].processor for one in found),
            }
            for name in loops
            if name != "nanocv"
        },
    }  # fmt: skip


def profile(case: Case, seconds: float) -> dict[str, float]:
    """Milliseconds of each part of a whole step; `gather` runs on another thread, beside the others."""
    steps, spent = Steps(case), defaultdict[str, float](float)
    learner, task, epoch = steps.learner, steps.learner.task, Batches.epoch

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                spent[name] += time.perf_counter() - start

        return run

    def gathered(batches: Batches, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        source = epoch(batches, number)
        following = timed("gather", lambda: next(source, None))
        while batch := following():
            yield batch

    parts: list[tuple[str, Any, str]] = [
        ("augment", task, "augment"),
        ("forward", learner.network, "forward"),
        ("loss", task, "loss"),
        ("metric", task, "train_metric"),
        ("backward", Tensor, "backward"),
        ("clip", nn.utils, "clip_grad_norm_"),
        ("optimiser", learner.optimiser, "step"),
    ]
    if learner.average:
        parts.append(("average", learner.average, "update"))
    with ExitStack() as patches:
        patches.enter_context(patch.object(Batches, "epoch", gathered))
        for name, owner, method in parts:
            patches.enter_context(patch.object(owner, method, timed(name, getattr(owner, method))))
        whole = steps.whole()
        next(whole), next(whole)
        spent.clear()
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            next(whole)
            count += 1
        total = time.perf_counter() - start
        whole.close()  # type: ignore[attr-defined]
    inside = {name: spent[name] for name, _, _ in parts}
    named = {"whole": total, **inside, "rest": total - sum(inside.values()), "gather": spent["gather"]}
    return {name: 1e3 * value / count for name, value in named.items()}


def main() -> None:
    """Prints a line for each model, and where its step goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, help="that torch computes with; 1: processor time holds no waiting")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each loop")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each of them")
    parser.add_argument("--profile", action="store_true", help="where the whole step goes, in milliseconds")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    device = pick_device("cpu")
    precision = pick_precision(arguments.precision, device)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # for all loops alike
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder))
        for model in arguments.models.split(","):
            case = Case(config_of(model), device, precision)
            row = compared(case, Path(folder), arguments.rounds, arguments.seconds)
            if arguments.profile:
                row["milliseconds"] = profile(case, PROFILED * arguments.seconds)
            rows.append(row)
            if not arguments.json:
                print(told(row), flush=True)
    if arguments.json:
        print(json.dumps(rows))
        return
    if not find_spec("timm"):
        print("timm is not installed: not compared")


def told(row: dict[str, Any]) -> str:
    """A row for people."""
    speeds = ", ".join(f"{name} {speed:.0f}" for name, speed in row["images_per_second"].items())
    ratios = ", ".join(
        f"{ratio['clock']:.2f} of {name} ({ratio['processor']:.2f} by processor time)"
        for name, ratio in row["nanocv_over"].items()
    )
    lines = [f"{row['model']} ({row['precision']}, batches of {row['batch']}): nanocv is {ratios}",
             f"  images/s: {speeds}"]  # fmt: skip
    if parts := row.get("milliseconds"):
        lines.append("  ms of a step: " + ", ".join(f"{name} {value:.2f}" for name, value in parts.items()))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
