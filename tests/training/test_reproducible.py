"""Same seed, same device, same weights: what docs/reproducibility.md says is bit-exact, a test a line."""

import ast
import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nanocv_cli.training import train as training
from nanocv_cli.training.context import TrainRequest, start_run
from nanocv_cli.training.distributed import ALONE
from nanocv_cli.training.epoch import Interrupted
from nanocv_cli.training.recorders.recorders import Recorders
from nanocv_cli.training.state import read_progress
from tests.boxed import write_boxed_set
from tests.conftest import REPOSITORY, write_tiny_set
from tests.masked import write_masked_set
from tests.training.weights import same_weights

CPU = torch.device("cpu")
COUNTS = {"train": 16, "val": 4}
STEPS = 4
SHARED = ("train.epochs=2", "train.log=[]", "train.precision=fp32", "train.ema_decay=0.9", "train.augment.flip=true")
# The smallest of each task's own network, with all that draws at random: two epochs of two steps.
MODELS = {
    "classification": (
        "lenet32", "train.batch_size=24", "model.args.dropout=0.3", "train.augment.mix=0.5", "train.augment.erase=0.5"),
    "detection": (
        "nanospot", "train.batch_size=8", "model.input_size=64", "model.args.widths=[8,8,8,8]", "model.args.neck=8",
        "train.augment.mosaic=0.5"),
    "segmentation": (
        "nanoseg", "train.batch_size=8", "model.input_size=64", "model.args.stem=8", "model.args.widths=[8,8,8]",
        "model.args.decoder=8", "model.args.dropout=0.3", "train.augment.mosaic=0.5"),
    "generation": (
        "nanoflow", "train.batch_size=24", "model.args.widths=[8,8]", "model.args.depth=1", "model.args.embedding=16",
        "model.sampling.steps=1", "model.classifier=null"),
}  # fmt: skip
PLAIN_STEPS = ("train.ema_decay=0", "train.optimizer=sgd")
TASKS = pytest.mark.parametrize("task", MODELS)

Learn = Callable[..., Path]


@pytest.fixture(scope="module")
def learn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Learn]:
    """Trains a task with some settings; the folder of its checkpoints.

    `stops`: it is interrupted after every single step, and resumed. An undisturbed run is made once for all tests.
    """
    root = tmp_path_factory.mktemp("reproducible")
    colours = write_tiny_set(root / "colours", COUNTS)
    data = {
        "classification": colours,
        "generation": colours,
        "detection": write_boxed_set(root / "boxed", COUNTS),
        "segmentation": write_masked_set(root / "masked", COUNTS),
    }

    def run(task: str, *settings: str, stops: bool = False) -> Path:
        model, *own = MODELS[task]
        out = tmp_path_factory.mktemp(task) / "run"
        request = TrainRequest(str(data[task]), model, overrides=(*SHARED, *own, *settings), out=out)
        stopped = 0
        with contextlib.chdir(root), pytest.MonkeyPatch.context() as patch:
            # The best weights are kept before this measures them, draws their images and so takes half of the time.
            patch.setattr(training, "_finish", lambda *_: None)
            if stops:
                patch.setattr(training, "watch_interrupts", lambda: nullcontext(SimpleNamespace(wanted=1)))
            while True:
                try:
                    with start_run(request, root, root / "cache", CPU, ALONE) as context:
                        training.train(context, Recorders(context, root))
                    break
                except Interrupted:
                    stopped += 1
                    request = TrainRequest(resume=str(out))
        assert stopped >= STEPS if stops else not stopped
        return out / "checkpoints"

    whole = functools.cache(run)
    yield lambda *asked, stops=False: run(*asked, stops=True) if stops else whole(*asked)


def same(first: Path, second: Path) -> bool:
    """Whether two runs have the same best weights, and the same state of network, optimiser and average."""
    return all(same_weights(first / name, second / name) for name in ("best.safetensors", "last.safetensors"))


def losses(run: Path) -> list[float]:
    """Of the epochs."""
    return [row["train_loss"] for row in read_progress(run / "last.safetensors").history]


def repeats(learn: Learn, task: str, *settings: str) -> bool:
    """Whether a run that is stopped after every step and resumed ends as an undisturbed one, which is not the plain."""
    whole = learn(task, *settings)
    assert not same(whole, learn(task))
    return same(whole, learn(task, *settings, stops=True))


@pytest.mark.slow(2)
@TASKS
def test_a_run_stopped_after_every_step_ends_with_the_same_bits(learn: Learn, task: str) -> None:
    assert same(learn(task), learn(task, stops=True))


@pytest.mark.slow(2)
@TASKS
def test_streamed_images_give_the_bits_of_cached_ones(learn: Learn, task: str) -> None:
    assert same(learn(task), learn(task, "data.cache_gb=0", stops=True))


@pytest.mark.slow(2)
@TASKS
def test_micro_batches_in_bf16_of_balanced_classes_repeat_themselves(learn: Learn, task: str) -> None:
    balance = () if task == "segmentation" else ("train.balance=1.0",)
    assert repeats(learn, task, "train.accumulate=2", "train.precision=bf16", *balance)


@pytest.mark.slow(2)
@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_int8_repeats_itself(learn: Learn, task: str) -> None:
    assert repeats(learn, task, "train.quantise=int8")


@pytest.mark.slow(2)
def test_without_an_average_sgd_repeats_itself(learn: Learn) -> None:
    assert repeats(learn, "classification", *PLAIN_STEPS)


@pytest.mark.slow(2)
def test_another_seed_gives_other_weights(learn: Learn) -> None:
    assert not same(learn("classification"), learn("classification", "train.seed=1"))


@pytest.mark.slow(2)
def test_another_number_of_threads_gives_nearly_the_same_losses(learn: Learn) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1 if before > 1 else 2)
    try:
        other = losses(learn("classification", *PLAIN_STEPS, "train.name=other_threads"))
    finally:
        torch.set_num_threads(before)
    assert other == pytest.approx(losses(learn("classification", *PLAIN_STEPS)), rel=1e-3)


PAGE = REPOSITORY / "docs" / "reproducibility.md"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def lines() -> list[str]:
    """The lines of the page's tables, without their heads."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    heads = {number + below for number, row in enumerate(rows) if row.startswith("|---") for below in (-1, 0)}
    return [row for number, row in enumerate(rows) if number not in heads]


def functions_of(file: str) -> set[str]:
    tree = ast.parse((REPOSITORY / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_line_of_the_page_names_a_test_that_is_there() -> None:
    assert len(lines()) > 10
    for line in lines():
        named = TEST.findall(line)
        assert named, f"no test beside: {line}"
        for file, test in named:
            assert test in functions_of(file), f"{file} has no {test}"


def test_every_run_that_is_compared_here_stands_on_the_page() -> None:
    here = str(Path(__file__).relative_to(REPOSITORY))
    named = {test for file, test in TEST.findall(PAGE.read_text()) if file == here}
    assert {name for name in functions_of(here) if name.startswith("test_")} - named == {
        "test_every_line_of_the_page_names_a_test_that_is_there",
        "test_every_run_that_is_compared_here_stands_on_the_page",
    }
