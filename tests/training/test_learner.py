"""Steps, averages and their state: what is restored goes on to the bit."""

import pytest
import torch
from torch import nn

from nanocv_cli.config.loader import resolve
from nanocv_cli.config.schema import RunConfig
from nanocv_cli.data.batches import Share
from nanocv_cli.errors import ConfigError, OutOfMemoryError
from nanocv_cli.models.quantised import quantise_layers
from nanocv_cli.models.registry import build_model
from nanocv_cli.tasks.table import task_for
from nanocv_cli.training.distributed import ProcessGroup
from nanocv_cli.training.learner import Learner
from nanocv_cli.training.optimiser import MovingAverage, build_optimiser, freeze, learning_rate

CPU = torch.device("cpu")
IMAGES = torch.randint(0, 256, (6, 36, 36, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 1, 2, 0, 1, 2])


def config_with(*overrides: str) -> RunConfig:
    return resolve(overrides=["model.input_size=32", "model.args.dropout=0.3", "train.epochs=4", *overrides]).config


def learner_for(config: RunConfig, quantised: bool = False) -> Learner:
    torch.manual_seed(config.train.seed)
    network = build_model(config.model, 3).to(memory_format=torch.channels_last)
    if quantised:
        quantise_layers(network)
    return Learner(network, task_for("classification"), config, CPU, "fp32")


def steps(learner: Learner, first: int, last: int) -> None:
    for step in range(first, last):
        learner.learn(IMAGES, TARGETS, step // 3, step % 3, 3)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("train.ema_decay=0.9", "train.gradient_clip=1"),
        ("train.optimizer=sgd", "train.augment.mix=0.5", "train.augment.erase=0.5"),
    ],
)
def test_a_restored_learner_goes_on_bit_for_bit(overrides: tuple[str, ...]) -> None:
    config = config_with(*overrides)
    whole = learner_for(config)
    steps(whole, 0, 7)
    first = learner_for(config)
    steps(first, 0, 4)
    # Files keep no memory order.
    saved = {
        group: {k: v.clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
        for group, tensors in first.tensors().items()
    }
    second = learner_for(config_with(*overrides, "train.seed=9"))  # other weights at first
    second.config = config
    second.restore(saved)
    torch.rand(17)  # the global generator must not matter
    steps(second, 4, 7)
    for group, tensors in whole.tensors().items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, second.tensors()[group][name]), f"{group} {name}"


class Plain(nn.Module):
    """A network without batch norm: what it answers of an image depends on no other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2)
        self.last = nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.last(self.first(images).relu().mean((2, 3)))
        return logits


def plain_losses(*overrides: str) -> tuple[list[float], Plain]:
    """Of six steps, and the network after them."""
    torch.manual_seed(0)
    network = Plain()
    learner = Learner(network, task_for("classification"), config_with(*overrides), CPU, "fp32")
    return [learner.learn(IMAGES, TARGETS, step // 3, step % 3, 3)[0].item() for step in range(6)], network


@pytest.mark.parametrize(("accumulate", "mix"), [(2, 0), (4, 0), (3, 1.0), (64, 0.5)])
def test_micro_batches_learn_what_the_whole_batch_teaches(accumulate: int, mix: float) -> None:
    settings = (f"train.augment.mix={mix}", "train.gradient_clip=1", "train.augment.erase=0.5")
    whole, one = plain_losses(*settings)
    parts, other = plain_losses(*settings, f"train.accumulate={accumulate}")
    assert parts == pytest.approx(whole, abs=1e-5)
    torch.testing.assert_close(one.state_dict(), other.state_dict(), atol=1e-5, rtol=1e-4)


class Memory:
    """Of a device that takes no more than so many images at a time: as a hook of the network's first layer."""

    def __init__(self, most: int) -> None:
        self.most = most

    def __call__(self, module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if len(inputs[0]) > self.most:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory")


def test_a_step_that_memory_does_not_suffice_for_is_made_in_halves_and_gives_the_same() -> None:
    whole, expected = plain_losses("train.augment.mix=0.5")
    torch.manual_seed(0)
    network, told = Plain(), []  # type: ignore[var-annotated]
    network.first.register_forward_pre_hook(Memory(2))  # type: ignore[arg-type]
    config = config_with("train.augment.mix=0.5")
    learner = Learner(network, task_for("classification"), config, CPU, "fp32", say=told.append)
    losses = [learner.learn(IMAGES, TARGETS, step // 3, step % 3, 3)[0].item() for step in range(6)]
    assert losses == pytest.approx(whole, abs=1e-5)
    torch.testing.assert_close(network.state_dict(), expected.state_dict(), atol=1e-5, rtol=1e-4)
    assert learner.accumulate == 4
    assert len(told) == 2  # of 6 images, 3, 2: not once a step
    assert "micro-batches of 2 from here on" in told[-1]


@pytest.mark.parametrize("quantised", [False, True])
def test_statistics_and_ranges_of_an_attempt_that_failed_are_put_back(quantised: bool) -> None:
    whole, short = (
        learner_for(config_with("model.input_size=64", f"train.accumulate={parts}"), quantised) for parts in (4, 1)
    )
    short._say = lambda line: None
    # Norms and ranges before the last layer have moved by then.
    short.network.get_submodule("classifier").register_forward_pre_hook(Memory(2))  # type: ignore[arg-type]
    for learner in (whole, short):
        steps(learner, 0, 4)
    assert short.accumulate == 4
    assert any("norm" in name for name, _ in short.network.named_buffers())
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, short.network.state_dict()[name]), name


def test_a_run_that_memory_did_not_suffice_for_goes_on_to_the_same_bits() -> None:
    whole = learner_for(config_with("model.input_size=64"))
    hook = whole.network.get_submodule("classifier").register_forward_pre_hook(Memory(2))  # type: ignore[arg-type]
    steps(whole, 0, 4)
    hook.remove()
    saved = {group: {k: v.clone() for k, v in tensors.items()} for group, tensors in whole.tensors().items()}
    resumed = learner_for(config_with("model.input_size=64"))
    asked_anew = learner_for(config_with("model.input_size=64", "train.accumulate=2"))
    for learner in (resumed, asked_anew):
        learner.restore(saved)
    assert (resumed.accumulate, asked_anew.accumulate) == (4, 2)
    for learner in (whole, resumed):
        steps(learner, 4, 7)
    for group, tensors in whole.tensors().items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, resumed.tensors()[group][name]), f"{group} {name}"


def test_where_one_image_does_not_fit_the_message_says_what_would() -> None:
    network = Plain()
    network.first.register_forward_pre_hook(Memory(0))  # type: ignore[arg-type]
    learner = Learner(network, task_for("classification"), config_with(), CPU, "fp32", say=lambda line: None)
    with pytest.raises(OutOfMemoryError, match="one image at a time") as raised:
        learner.learn(IMAGES, TARGETS, 0, 0, 3)
    assert "model.input_size" in raised.value.hint


def test_a_group_is_told_how_to_take_fewer_images_at_a_time() -> None:
    learner = learner_for(config_with())
    learner._group = ProcessGroup(1, 2)
    learner.network.features.conv1.register_forward_pre_hook(Memory(1))  # type: ignore[union-attr, operator]
    with pytest.raises(OutOfMemoryError, match="process 1 has not enough memory for 3 images") as raised:
        learner.learn(IMAGES[3:], TARGETS[3:], 0, 0, 3, Share(3, 3, 6))
    assert "--set train.accumulate=2" in raised.value.hint


def test_learning_lowers_the_loss() -> None:
    learner = learner_for(config_with("model.args.dropout=0", "train.epochs=20"))
    # A class is a colour, which neither crops nor flips take away.
    images = torch.zeros_like(IMAGES).scatter_(3, TARGETS.view(6, 1, 1, 1).expand(6, 36, 36, 1), 200)
    losses = [learner.learn(images, TARGETS, step // 3, step % 3, 3)[0].item() for step in range(60)]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_vectors_are_not_decayed() -> None:
    network = build_model(config_with().model, 3)
    decayed, plain = build_optimiser(network, config_with().train).param_groups
    assert decayed["weight_decay"] == 0.05
    assert plain["weight_decay"] == 0.0
    assert all(p.ndim >= 2 for p in decayed["params"])
    assert all(p.ndim == 1 for p in plain["params"])
    assert len(decayed["params"]) + len(plain["params"]) == len(list(network.parameters()))


def test_the_average_follows_its_formula() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(0.0)
    average = MovingAverage(network, 0.9)
    expected = 0.0
    for step in range(50):
        network.weight.data.fill_(float(step))
        average.update(network, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert average.state["weight"].item() == pytest.approx(expected, rel=1e-5)


def test_what_is_evaluated_is_the_average() -> None:
    learner = learner_for(config_with("train.ema_decay=0.99"))
    steps(learner, 0, 5)
    assert learner.average is not None
    evaluated = learner.evaluated().state_dict()
    for name, tensor in learner.average.state.items():
        assert torch.equal(evaluated[name], tensor)
    assert not torch.equal(evaluated["features.conv1.weight"], learner.network.state_dict()["features.conv1.weight"])


def test_what_was_taken_learns_more_slowly_than_what_is_new() -> None:
    config = config_with("train.taken_rate=0.25")
    torch.manual_seed(0)
    network = build_model(config.model, 3)
    taken = {name for name, _ in network.named_parameters() if not name.startswith("classifier")}
    learner = Learner(network, task_for("classification"), config, CPU, "fp32", taken=taken)
    steps(learner, 0, 2)
    rates = {group["lr"] for group in learner.optimiser.param_groups}
    assert rates == {learning_rate(config.train, 1, 12), 0.25 * learning_rate(config.train, 1, 12)}
    slow = {id(p) for group in learner.optimiser.param_groups if group["is_taken"] for p in group["params"]}
    assert slow == {id(p) for name, p in network.named_parameters() if name in taken}


@pytest.mark.parametrize("pattern", ["features", "features.*"])
def test_what_is_frozen_keeps_its_bits_and_its_statistics(pattern: str) -> None:
    config = config_with("train.ema_decay=0.9")
    network = build_model(config.model, 3)
    frozen = freeze(network, [pattern])
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    learner = Learner(network, task_for("classification"), config, CPU, "fp32", frozen=frozen)
    steps(learner, 0, 4)
    assert learner.average is not None
    for state in (network.state_dict(), learner.average.state):
        for name, tensor in state.items():
            assert torch.equal(tensor, before[name]) == name.startswith("features."), name


def test_a_norm_of_which_a_part_learns_is_not_frozen() -> None:
    network = build_model(config_with().model, 3)
    assert freeze(network, ["features.norm1.bias", "features.conv?.weight"]) == [
        network.get_submodule(f"features.conv{stage}") for stage in range(1, 6)
    ]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("stem", "no parameter or module of the network fits 'stem'"), ("*", "leaves nothing that could learn")],
)
def test_a_pattern_that_freezes_nothing_or_all_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        freeze(build_model(config_with().model, 3), ["features.conv1", pattern])
