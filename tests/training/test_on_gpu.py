"""On a CUDA device: that nothing waits, that what is learnt and answered is a CPU's, and that commands run there.

`make gpu` runs these; elsewhere they are passed over.
"""

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from nanocv_cli.config.loader import resolve
from nanocv_cli.config.schema import CropAugment, RunConfig, ViewAugment
from nanocv_cli.data import augment
from nanocv_cli.data.batches import generator_for
from nanocv_cli.data.views import augment_boxes, augment_masks
from nanocv_cli.models.registry import build_model
from nanocv_cli.tasks.table import task_for
from nanocv_cli.training.feed import Batch, fed
from nanocv_cli.training.learner import Learner
from nanocv_cli.training.replay import Replayed
from tests.conftest import TINY, Command
from tests.training.test_no_waiting import TARGETS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CUDA, CPU = torch.device("cuda"), torch.device("cpu")
IMAGES = torch.randint(0, 256, (4, 73, 73, 3), dtype=torch.uint8, generator=generator_for(1, 0))
CASES = [
    ("lenet", ["train.augment.mix=1", "train.augment.erase=0.5", "train.augment.saturation=0.3"]),
    ("nanospot", ["train.augment.mosaic=0.5", "train.augment.zoom_out=1.3"]),
    ("nanoseg", ["train.augment.mosaic=0.5", "train.region_loss=1"]),
    ("nanoflow", []),
]


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Products and convolutions in whole fp32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@contextmanager
def nothing_waits() -> Iterator[None]:
    """Torch itself refuses what would wait for the device."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def config_of(model: str, overrides: list[str]) -> RunConfig:
    return resolve(None, model, overrides=["model.input_size=64", *overrides]).config


def learner_on(device: torch.device, config: RunConfig, precision: str) -> Learner:
    torch.manual_seed(0)
    network = build_model(config.model, 3).to(device).to(memory_format=torch.channels_last)
    return Learner(network, task_for(config.model.task), config, device, precision)


@pytest.mark.parametrize(("precision", "accumulate"), [("fp32", 1), ("bf16", 1), ("fp16", 1), ("bf16", 2)])
@pytest.mark.parametrize(("model", "overrides"), CASES)
def test_no_step_waits_for_the_device(model: str, overrides: list[str], precision: str, accumulate: int) -> None:
    common = ["train.ema_decay=0.9", "train.gradient_clip=1", f"train.accumulate={accumulate}"]
    config = config_of(model, [*common, *overrides])
    learner = learner_on(CUDA, config, precision)
    targets = TARGETS[learner.task.name]
    given = (IMAGES.to(CUDA), targets if learner.task.targets_on_cpu else targets.to(CUDA))
    for step in range(4):
        learner.learn(*given, 0, step, 9)
    with nothing_waits():
        losses = [learner.learn(*given, 0, step, 9)[0] for step in range(4, 7)]
    assert all(torch.isfinite(loss).item() for loss in losses)


@pytest.mark.parametrize(("model", "overrides"), CASES)
def test_a_step_learns_what_it_would_on_a_cpu(model: str, overrides: list[str]) -> None:
    plain = ["train.augment.min_area=1"] if model in ("lenet", "nanoflow") else ["train.augment.min_scale=1"]
    kept = [override for override in overrides if "mosaic" not in override and "zoom" not in override]
    # Images that are not resized are the same on both, to the bit.
    config = config_of(model, [*kept, *plain, "train.augment.rescale=0", "train.augment.aspect=1"])
    found = []
    for device in (CPU, CUDA):
        learner = learner_on(device, config, "fp32")
        loss, metric = learner.learn(IMAGES, TARGETS[learner.task.name], config.train.epochs - 1, 0, 1)
        gradients = [p.grad.flatten().cpu() for p in learner.network.parameters() if p.grad is not None]
        found.append((loss.item(), float(metric), torch.cat(gradients)))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-4)
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-2, abs=1e-2)
    assert (found[0][2] - found[1][2]).norm() < 1e-2 * found[0][2].norm()


@pytest.mark.parametrize(("model", "overrides"), CASES)
def test_replayed_passes_give_the_bits_of_launched_ones(model: str, overrides: list[str]) -> None:
    if model == "lenet":
        overrides = [*overrides, "model.args.dropout=0.3", "train.ema_decay=0.9"]
    found = []
    for graphs in ("off", "auto"):
        learner = learner_on(CUDA, config_of(model, [*overrides, f"train.cuda_graphs={graphs}"]), "bf16")
        targets = TARGETS[learner.task.name]
        losses = [learner.learn(IMAGES, targets, 0, step, 20)[0].item() for step in range(12)]
        assert (learner.replayed is not None and learner.replayed.captured > 0) == (graphs == "auto")
        found.append((losses, [tensor.clone() for tensor in learner.network.state_dict().values()]))
    (plain, weights), (replayed, others) = found
    if model == "nanoseg":  # its gradients add up in an order of their own, however they are launched
        assert replayed == pytest.approx(plain, rel=0.05)
    else:
        assert replayed == plain
        assert all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))


def test_a_network_that_cannot_be_replayed_is_launched() -> None:
    class Looks(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 3)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.layer(inputs)
            return found if found.sum().item() > 0 else -found

    said: list[str] = []
    network = Looks().to(CUDA)
    replayed = Replayed(network, CUDA, "fp32", said.append)
    for _ in range(12):
        inputs = torch.rand(4, 3, device=CUDA)
        assert torch.equal(replayed(inputs), network(inputs))
    assert len(said) == 1
    assert "Looks is launched step by step" in said[0]


def test_crops_and_views_are_those_of_a_cpu() -> None:
    crops = [
        augment.random_crops(IMAGES.to(device), 48, CropAugment(min_area=0.3, aspect=1.3), generator_for(5, 0)).cpu()
        for device in (CPU, CUDA)
    ]
    config = ViewAugment(min_scale=0.3, aspect=1.3, zoom_out=1.4, mosaic=0.5)
    boxed = [
        augment_boxes(IMAGES.to(device), TARGETS["detection"], 64, config, generator_for(5, 1))
        for device in (CPU, CUDA)
    ]
    masked = [
        augment_masks(IMAGES.to(device), TARGETS["segmentation"].to(device), 64, config, generator_for(5, 1))
        for device in (CPU, CUDA)
    ]
    for cpu, gpu in (crops, [views for views, _ in boxed], [views for views, _ in masked]):
        assert (cpu.int() - gpu.cpu().int()).abs().max() <= 1
    assert torch.equal(boxed[0][1], boxed[1][1])
    assert (masked[0][1] != masked[1][1].cpu()).float().mean() < 0.01


@pytest.mark.parametrize("targets_on_cpu", [False, True])
def test_batches_arrive_whole_while_the_device_is_busy(targets_on_cpu: bool) -> None:
    def source() -> Generator[Batch, None, None]:
        for number in range(40):
            yield torch.full((64, 200, 200, 3), number, dtype=torch.uint8), torch.full((64,), number)

    busy, sums = torch.rand(4096, 4096, device=CUDA), []
    with fed(source(), CUDA, targets_on_cpu) as arriving:
        for images, targets in arriving:
            busy = (busy @ busy).clamp(0, 1)  # the step is behind: the next copies must not land in what it still reads
            assert images.device.type == "cuda"
            assert targets.is_cuda is not targets_on_cpu
            sums.append((images.float().mean(), images.amin(), images.amax()))
    assert [[float(value) for value in row] for row in sums] == [[number] * 3 for number in range(40)]


# Trackers are packages of their own.
SETS = [word for pair in (*TINY, "train.log=[]") if "precision" not in pair for word in ("--set", pair)]


@pytest.mark.parametrize("precision", ["auto", "fp16", "fp32"])
def test_a_run_trains_and_measures(nanocv: Command, project: Path, tiny_set: Path, precision: str) -> None:
    chosen = ["--set", f"train.precision={precision}", "--set", "train.ema_decay=0.9"]
    common = ["train", "--data", tiny_set, "--model", "lenet", *SETS, *chosen, "--device", "cuda", "--json"]
    outcome = nanocv(*common, "--out", "run")
    assert outcome.code == 0, outcome.err
    losses = [
        json.loads(nanocv("eval", "--model", "run", "--data", tiny_set, *how, "--json").out)["metrics"]["loss"]
        for how in (["--engine", "torch", "--device", "cuda"], ["--engine", "torch", "--device", "cpu"], [])
    ]
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)
    assert losses[1] == pytest.approx(losses[2], rel=1e-3)


def test_a_loss_that_is_no_number_is_found(nanocv: Command, project: Path, tiny_set: Path) -> None:
    broken = ["--set", "train.learning_rate=100", "--set", "train.optimizer=sgd", "--set", "train.epochs=60"]
    outcome = nanocv("train", "--data", tiny_set, "--model", "lenet", *SETS, *broken, "--device", "cuda")
    assert outcome.code == 1
    assert "lower the rate" in outcome.err
