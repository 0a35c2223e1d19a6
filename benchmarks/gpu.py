"""What a GPU makes of training and evaluation: a whole step against a bare loop, and whether it computes as a CPU does.

    python -m benchmarks.gpu [--models lenet,resnet18] [--seconds 0.7] [--json FILE]

Images are random; nothing is downloaded. The whole step reads a cache in memory as `nanocv train` does: rows gathered,
copied, augmented, learnt from, with everything the recipe asks for. The bare loop repeats network, loss and optimiser
on one batch that is on the device already. Both run in turn; the figure is the median of the ratios.
"""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nanocv_cli.config.loader import resolve
from nanocv_cli.config.schema import RunConfig
from nanocv_cli.data.batches import Batches, CachedImages, generator_for
from nanocv_cli.evaluation.evaluate import Split, evaluate, torch_answer
from nanocv_cli.machine import keep_freed_memory, usable_processors, versions
from nanocv_cli.models.device import autocast, computing_type, pick_device, pick_precision
from nanocv_cli.models.registry import build_model
from nanocv_cli.tasks.base import StepSettings
from nanocv_cli.tasks.table import task_for
from nanocv_cli.training.feed import fed
from nanocv_cli.training.learner import Learner
from nanocv_cli.training.train import TRAIN_MARGIN

MODELS = ("lenet", "nanores", "nanospot", "nanoseg", "nanoflow", "resnet18")
CLASSES = 4
BATCHES = 8  # in the cache
ROUNDS = 5
MIB = 2**20


@dataclass(frozen=True)
class Case:
    """A model with images to learn from."""

    config: RunConfig
    device: torch.device
    precision: str

    def network(self) -> nn.Module:
        """Alike at every call."""
        torch.manual_seed(0)
        network = build_model(self.config.model, CLASSES).to(self.device)
        return network.to(memory_format=torch.channels_last)

    def learner(self, memory_format: torch.memory_format = torch.channels_last) -> Learner:
        """A fresh one."""
        network = self.network().to(memory_format=memory_format)
        return Learner(network, task_for(self.config.model.task), self.config, self.device, self.precision)

    def without_graphs(self) -> "Case":
        """The same with launches one by one."""
        train = self.config.train.model_copy(update={"cuda_graphs": "off"})
        return Case(self.config.model_copy(update={"train": train}), self.device, self.precision)

    def split(self, count: int, size: int) -> Split:
        """Random images and targets."""
        rng = np.random.default_rng(0)
        targets: dict[str, Callable[[], NDArray[Any]]] = {
            "classification": lambda: rng.integers(0, CLASSES, count),
            "generation": lambda: rng.integers(0, CLASSES, count),
            "segmentation": lambda: rng.integers(0, CLASSES, (count, size, size), np.uint8),
            "detection": lambda: _boxes(rng, count),
        }
        images = rng.integers(0, 256, (count, size, size, 3), np.uint8)
        return Split(images, targets[self.config.model.task]())


def _boxes(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    corner = rng.uniform(0.0, 0.6, (count, 6, 2))
    rows = [corner, corner + rng.uniform(0.1, 0.4, (count, 6, 2)), rng.integers(0, CLASSES, (count, 6, 1))]
    return np.concatenate([*rows, np.zeros((count, 6, 1))], 2).astype(np.float32)


class Steps:
    """The whole step and the bare one of a case."""

    def __init__(self, case: Case, memory_format: torch.memory_format = torch.channels_last) -> None:
        config = case.config
        size, batch = round(config.model.input_size * TRAIN_MARGIN), config.train.batch_size
        split = case.split(BATCHES * batch, size)
        self.case = case
        self.batches = Batches(CachedImages(split.images), split.targets, batch, 0)
        self.learner, self.bare = case.learner(), case.learner(memory_format)
        self.epoch = config.train.epochs - 1  # at full size, whatever the recipe's smaller beginnings
        images, targets = next(self.batches.epoch(0))
        task = self.bare.task
        settings = StepSettings(config.model.input_size, computing_type(case.precision), config.model, config.train,
                                generator_for(0, 0), self.batches.share)  # fmt: skip
        targets = targets if task.targets_on_cpu else targets.to(case.device)
        inputs, self.expected = task.augment(images.to(case.device), targets, settings)
        self.inputs = task.training_inputs(inputs, self.expected)

    def fed(self) -> Iterator[None]:
        """Batches brought to the device, and nothing learnt from them."""
        while True:
            with fed(self.batches.epoch(self.epoch), self.case.device, self.learner.task.targets_on_cpu) as arriving:
                for _ in arriving:
                    yield

    def whole(self) -> Iterator[None]:
        """One step after the other, as `nanocv train` makes them."""
        while True:
            with fed(self.batches.epoch(self.epoch), self.case.device, self.learner.task.targets_on_cpu) as arriving:
                for step, (images, targets) in enumerate(arriving):
                    self.learner.learn(images, targets, self.epoch, step, self.batches.per_epoch, self.batches.share)
                    yield

    def bare_loop(self, network: nn.Module | None = None) -> Iterator[None]:
        """Network, loss, gradients, optimiser, on one batch."""
        task, train, called = self.bare.task, self.case.config.train, self.bare.network if network is None else network
        called.train()
        while True:
            with autocast(self.case.device, self.case.precision):
                outputs = called(*self.inputs)
            loss = task.loss(outputs, self.expected, train)
            self.bare.optimiser.zero_grad()
            loss.backward()
            self.bare.optimiser.step()
            yield


def rate(steps: Iterator[None], seconds: float) -> float:
    """Steps per second."""
    torch.cuda.synchronize()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(5):
            next(steps)
        count += 5
    torch.cuda.synchronize()
    return count / (time.perf_counter() - start)


@contextmanager
def utilisation() -> Iterator[list[int]]:
    """Percent of the time that some kernel runs, as NVML samples it; nothing where pynvml is not installed."""
    found: list[int] = []
    try:
        import pynvml
    except ImportError:
        yield found
        return
    pynvml.nvmlInit()
    handle, ended = pynvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device()), threading.Event()

    def sample() -> None:
        while not ended.wait(0.1):
            found.append(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def speed(case: Case, seconds: float) -> dict[str, Any]:
    """Both loops in turn; utilisation and memory of the whole one."""
    torch.cuda.reset_peak_memory_stats()
    steps = Steps(case)
    whole, bare, batch = steps.whole(), steps.bare_loop(), case.config.train.batch_size
    rate(whole, 0.5), rate(bare, 0.5)
    memory = torch.cuda.max_memory_allocated() / MIB
    plain, arriving = Steps(case.without_graphs()).whole(), steps.fed()
    rate(plain, 0.5), rate(arriving, 0.3)
    rounds = [[rate(loop, seconds) for loop in (whole, bare, plain)] for _ in range(ROUNDS)]
    with utilisation() as busy:
        rate(whole, max(seconds, 1.0))
    bringing = rate(arriving, seconds)
    for loop in (whole, plain, arriving):
        loop.close()  # type: ignore[attr-defined]
    medians = [batch * statistics.median(column) for column in zip(*rounds, strict=True)]
    return {
        "model": case.config.model.name, "precision": case.precision, "batch": batch,
        "ratio": statistics.median(whole / bare for whole, bare, _ in rounds),
        "ratio_without_graphs": statistics.median(plain / bare for _, bare, plain in rounds),
        "images_per_second": medians[0], "bare": medians[1], "without_graphs": medians[2],
        "fed_alone": batch * bringing,
        "gpu_percent": statistics.median(busy[2:]) if len(busy) > 2 else None, "memory_mib": memory,
    }  # fmt: skip


def evaluation(case: Case) -> dict[str, Any]:
    """Images per second of answering and counting, and of the answers alone."""
    config = case.config
    task, split = task_for(config.model.task), case.split(512, config.model.input_size)
    export_model = task.export_model(case.network(), config.model).to(case.device).eval()
    answer, answering = torch_answer(task, export_model, case.device, case.precision), 0.0

    def timed(inputs: Any) -> Any:
        nonlocal answering
        start = time.perf_counter()
        outputs = answer(inputs)
        answering += time.perf_counter() - start
        return outputs

    def run() -> float:
        start = time.perf_counter()
        evaluate(task, timed, split, tuple("abcd"), config.model)
        return time.perf_counter() - start

    run()
    answering = 0.0
    seconds = run()
    return {"model": config.model.name, "seconds": seconds, "answering": answering, "images": len(split.images)}


def agreement(config: RunConfig, device: torch.device) -> dict[str, Any]:
    """A step and an evaluation on the GPU and on the CPU, both in fp32: how far apart they are.

    Images are cut and not resized, so that both learn from the same.
    """
    overrides = ["train.batch_size=8", "train.gradient_clip=0", "train.augment.rescale=0"]
    small = resolve(None, config.model.name, overrides=overrides).config
    split = Case(small, device, "fp32").split(8, round(config.model.input_size * TRAIN_MARGIN))
    batches = Batches(CachedImages(split.images), split.targets, 8, 0)
    losses, gradients, answers = [], [], []
    for place in (torch.device("cpu"), device):
        case = Case(small, place, "fp32")
        torch.manual_seed(0)
        network = build_model(config.model, CLASSES)
        learner = Learner(network.to(place), task_for(config.model.task), small, place, "fp32")
        task = learner.task
        images, targets = next(batches.epoch(0))
        loss, _ = learner.learn(images, targets, config.train.epochs - 1, 0, 1)
        losses.append(loss.item())
        found = [p.grad.flatten().cpu() for p in network.parameters() if p.grad is not None]
        gradients.append(torch.cat(found).double())
        torch.manual_seed(0)
        fresh = build_model(config.model, CLASSES)
        model = task.export_model(fresh, config.model).to(place).eval()
        evaluated = case.split(8, config.model.input_size)
        inputs = task.graph_inputs(evaluated.images, evaluated.targets, 0)
        answers.append(torch_answer(task, model, place)(inputs))
    apart = (gradients[0] - gradients[1]).norm() / gradients[0].norm()
    return {
        "model": config.model.name, "loss_cpu": losses[0], "loss_gpu": losses[1],
        "loss_apart": abs(losses[1] / losses[0] - 1.0), "gradients_apart": apart.item(),
        "answers_apart": task.parity_error(*answers), "tolerance": task.tolerance,
    }  # fmt: skip


def repeated(case: Case) -> dict[str, Any]:
    """Whether ten steps made twice give the same bits."""
    found: list[list[Tensor]] = []
    for _ in range(2):
        steps = Steps(case)
        whole = steps.whole()
        for _ in range(10):
            next(whole)
        whole.close()  # type: ignore[attr-defined]
        found.append([p.detach().clone() for p in steps.learner.network.parameters()])
    apart = max((a - b).abs().max().item() for a, b in zip(*found, strict=True))
    return {"model": case.config.model.name, "weights_apart": apart}


def compiled(case: Case, seconds: float) -> list[dict[str, Any]]:
    """What other forms of the bare step cost to make, and how fast they are: each against the step as it is."""
    rows = []
    forms: dict[str, tuple[Callable[[nn.Module], nn.Module], torch.memory_format]] = {
        "contiguous": (lambda network: network, torch.contiguous_format),
        "torch.compile": (torch.compile, torch.channels_last),
        "torch.compile, reduce-overhead": (partial(torch.compile, mode="reduce-overhead"), torch.channels_last),
    }
    plain = rate_of(Steps(case).bare_loop(), seconds)
    for name, (form, memory_format) in forms.items():
        steps = Steps(case, memory_format)
        torch.cuda.synchronize()
        start = time.perf_counter()
        row: dict[str, Any] = {"model": case.config.model.name, "form": name}
        try:
            changed = steps.bare_loop(form(steps.bare.network))
            for _ in range(4):
                next(changed)
            torch.cuda.synchronize()
            made = time.perf_counter() - start
            row |= {"seconds_to_make": made, "times_as_fast": rate_of(changed, seconds) / plain}
            saved = (1.0 - 1.0 / row["times_as_fast"]) / plain
            row["steps_until_it_pays"] = made / saved if saved > 0 else None
        except Exception as error:  # what a compiler may raise is nowhere listed
            row["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        rows.append(row)
    return rows


def rate_of(steps: Iterator[None], seconds: float) -> float:
    """The better of two, after a moment."""
    rate(steps, 0.3)
    return max(rate(steps, seconds), rate(steps, seconds))


def config_of(model: str, batch: int | None = None) -> RunConfig:
    """A model with its recipe, maybe in larger batches."""
    return resolve(None, model, overrides=[f"train.batch_size={batch}"] if batch else []).config


def main() -> None:
    """Prints tables as they come, and writes all figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--batch", type=int, default=256, help="images of the larger batches")
    parser.add_argument("--seconds", type=float, default=0.7, help="of each measurement")
    parser.add_argument("--forms", default="lenet,resnet18", help="models that are compiled too; empty: none")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device, models = pick_device("cuda"), arguments.models.split(",")
    precision = pick_precision("auto", device)
    keep_freed_memory()
    found: dict[str, Any] = {"gpu": torch.cuda.get_device_name(device), "versions": versions()}
    print(f"{found['gpu']}, {precision}, {found['versions']}, {usable_processors()} processors")

    def table(name: str, rows: Iterator[dict[str, Any]]) -> None:
        found[name] = []
        print(f"\n{name}", flush=True)
        for row in rows:
            found[name].append(row)
            shown = (
                f"{key} {value:.5g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
            print("  " + "  ".join(shown), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(found, indent=1))

    batches = [None, arguments.batch] if arguments.batch else [None]
    cases = {(model, batch): Case(config_of(model, batch), device, precision) for batch in batches for model in models}
    table("whole step over bare loop", (speed(case, arguments.seconds) for case in cases.values()))
    table("evaluation", (evaluation(cases[model, None]) for model in models))
    table("ten steps, twice", (repeated(cases[model, None]) for model in models))
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    table("GPU against CPU, fp32 without tf32", (agreement(config_of(model), device) for model in models))
    torch.backends.cudnn.allow_tf32 = tf32
    forms = [model for model in arguments.forms.split(",") if model]
    table("other forms of the bare step",
          (row for model in forms for row in compiled(cases[model, None], arguments.seconds)))  # fmt: skip


if __name__ == "__main__":
    main()
