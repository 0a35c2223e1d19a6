"""nanocv's whole training step (batch from the cache, augmentation, step) against a bare loop on a tensor in memory.

    python benchmarks/train.py --data flowers --model lenet

Both loops use the same network, optimiser, precision and batch size, in turn; the figure is the ratio of their medians.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F

from nanocv_cli.config.loader import resolve
from nanocv_cli.config.project import cache_folder, project_root
from nanocv_cli.data.batches import Batches
from nanocv_cli.data.sources import image_folder
from nanocv_cli.display import Display
from nanocv_cli.evaluation.evaluate import load_split
from nanocv_cli.machine import keep_freed_memory
from nanocv_cli.models.device import autocast, pick_device, pick_precision
from nanocv_cli.models.registry import build_model
from nanocv_cli.tasks.table import task_for
from nanocv_cli.training.feed import Batch, fed
from nanocv_cli.training.learner import Learner
from nanocv_cli.training.train import TRAIN_MARGIN


def main() -> None:
    """Prints images per second of both loops and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--model")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rounds", type=int, default=15, help="pairs of measurements")
    parser.add_argument("--steps", type=int, default=8, help="steps in each measurement")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    config, root, display = resolve(arguments.data, arguments.model).config, project_root(), Display()
    device, task = pick_device(arguments.device), task_for(config.model.task)
    precision = pick_precision(arguments.precision, device)
    dataset = task.read(config.data, image_folder(config.data, root, display.say))
    size, batch = config.model.input_size, config.train.batch_size
    images = load_split(
        dataset, "train", task, cache_folder(root), round(size * TRAIN_MARGIN), config.model.resize, display
    )
    batches = Batches(images.images, images.targets, batch, config.train.seed)

    def network() -> torch.nn.Module:
        return build_model(config.model, len(dataset.classes)).to(device).to(memory_format=torch.channels_last)

    keep_freed_memory()  # for both loops alike
    learner, bare = Learner(network(), task, config, device, precision), network()
    optimiser = torch.optim.AdamW(bare.parameters(), lr=1e-3)
    inputs = torch.rand(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, len(dataset.classes), (batch,), device=device)
    # The last epochs train at full size, whatever the recipe's smaller beginnings.
    epoch = config.train.epochs - 1

    def arriving() -> Iterator[Batch]:
        while True:
            with fed(batches.epoch(epoch), device, task.targets_on_cpu) as brought:
                yield from brought

    stream = arriving()

    def whole_step(step: int) -> None:
        images, targets = next(stream)
        learner.learn(images, targets, epoch, step % batches.per_epoch, batches.per_epoch)[0].item()

    def bare_step(step: int) -> None:
        with autocast(device, precision):
            outputs = bare(inputs)
        loss = F.cross_entropy(outputs.float(), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()

    def rate(run_step: object) -> float:
        start = time.perf_counter()
        for step in range(arguments.steps):
            run_step(step)  # type: ignore[operator]
        return arguments.steps * batch / (time.perf_counter() - start)

    rate(whole_step), rate(bare_step)
    pairs = [(rate(whole_step), rate(bare_step)) for _ in range(arguments.rounds)]
    row = {
        "model": config.model.name,
        "device": device.type,
        "precision": precision,
        "nanocv_images_per_second": statistics.median(a for a, _ in pairs),
        "bare_images_per_second": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(a / b for a, b in pairs),
    }
    if arguments.json:
        print(json.dumps(row))
        return
    print(f"{row['model']}, {row['device']} {row['precision']}, batch {batch}, {Path(config.data.path).name}")
    print(f"nanocv {row['nanocv_images_per_second']:.0f}, bare loop {row['bare_images_per_second']:.0f} images/s")
    print(f"ratio {row['ratio']:.3f}")


if __name__ == "__main__":
    main()
