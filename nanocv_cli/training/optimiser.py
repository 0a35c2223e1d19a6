"""The optimiser of a recipe and its schedule, its state as plain named tensors, and the moving average of weights."""

import math
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from nanocv_cli.config.nearest import nearest
from nanocv_cli.config.schema import TrainConfig
from nanocv_cli.errors import ConfigError


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """The rate of step `step` (from 0) of `total`.

    `one-cycle` (arXiv:1708.07120) rises linearly over the `warmup` share of all steps and falls along half a cosine;
    `cosine` (arXiv:1608.03983) only falls. Both end at zero.
    """
    rising = config.warmup * total if config.schedule == "one-cycle" else 0.0
    if step < rising:
        return config.learning_rate * (step + 1) / (rising + 1)
    share = (step - rising) / max(1.0, total - rising)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * share))


def image_size(config: TrainConfig, input_size: int, epoch: int) -> int:
    """Side of the training images in `epoch`: grows linearly from `start_size` to full at two thirds of training.

    Progressive resizing (arXiv:2104.00298): early epochs cost less. Sizes are multiples of 16 pixels.
    """
    if config.start_size == 1.0:
        return input_size
    grown = min(1.0, epoch / max(1.0, config.epochs * 2 / 3))
    share = config.start_size + (1.0 - config.start_size) * grown
    return min(input_size, max(16, round(share * input_size / 16) * 16))


def freeze(network: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Keeps parameters as they are: the optimiser passes them over.

    Args:
        network: whose.
        patterns: globs of the names of parameters, or of modules that stand for all within them.

    Returns:
        the modules of which nothing learns; they belong in evaluation mode, where norms keep their statistics.

    Raises:
        ConfigError: a pattern fits no parameter, or nothing is left that learns.
    """
    parameters = dict(network.named_parameters())
    frozen: set[str] = set()
    for pattern in patterns:
        fitting = {name for name in parameters if any(fnmatchcase(part, pattern) for part in _enclosing(name))}
        if not fitting:
            modules = list(dict.fromkeys(name.split(".")[0] for name in parameters))
            known = {part for name in parameters for part in _enclosing(name)}
            hint = nearest(pattern, sorted(known)) or f"it has {', '.join(modules)}, and what is in them"
            raise ConfigError(f"train.freeze: no parameter or module of the network fits {pattern!r}", hint)
        frozen |= fitting
    if frozen == parameters.keys():
        raise ConfigError("train.freeze leaves nothing that could learn", "freeze less")
    for name in frozen:
        parameters[name].requires_grad_(False)
    within = {
        module: [name for name, _ in part.named_parameters(prefix=module)] for module, part in network.named_modules()
    }
    return [network.get_submodule(module) for module, names in within.items() if names and frozen.issuperset(names)]


def _enclosing(name: str) -> list[str]:
    """`a.b.weight`, `a.b` and `a`."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def build_optimiser(network: nn.Module, config: TrainConfig, taken: Collection[str] = ()) -> torch.optim.Optimizer:
    """AdamW (arXiv:1711.05101) or SGD with Nesterov momentum; biases, norms and other vectors are not decayed.

    Args:
        network: whose parameters learn, but for those that need no gradient.
        config: the recipe.
        taken: names of parameters that were taken over, whose groups learn more slowly, see `set_rates`.
    """
    learning = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    groups = []
    for is_taken in (False, True):
        parameters = [p for name, p in learning if (name in taken) == is_taken]
        if parameters:
            matrices, vectors = [p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]
            groups += [
                {"params": matrices, "weight_decay": config.weight_decay, "is_taken": is_taken},
                {"params": vectors, "weight_decay": 0.0, "is_taken": is_taken},
            ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.momentum, 0.999), fused=True)
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0)


def set_rates(optimiser: torch.optim.Optimizer, config: TrainConfig, step: int, total: int) -> None:
    """Sets what each group of parameters learns at in step `step` (from 0) of `total`; see `learning_rate`."""
    rate = learning_rate(config, step, total)
    for group in optimiser.param_groups:
        group["lr"] = rate * config.taken_rate if group["is_taken"] else rate


def optimiser_tensors(network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by parameter name: `features.conv1.weight/exp_avg`."""
    return {
        f"{name}/{key}": value
        for name, parameter in network.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def restore_optimiser(network: nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts back what `optimiser_tensors` returned, on each parameter's device."""
    parameters = dict(network.named_parameters())
    for full_name, value in tensors.items():
        name, _, key = full_name.rpartition("/")
        parameter = parameters[name]
        # A fused step walks raw memory: a moment must lie in the order of its parameter, however it was saved.
        place = torch.empty_like(parameter if value.ndim else value, dtype=value.dtype, device=parameter.device)
        optimiser.state[parameter][key] = place.copy_(value)


class MovingAverage:
    """Exponential moving average of a network's state; young averages forget faster, so early epochs can be evaluated.

    Args:
        network: whose state to follow.
        decay: of the settled average.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Moves the average towards the network's state after step `step` (from 0)."""
        decay = min(self.decay, (1.0 + step) / (10.0 + step))
        current = network.state_dict()
        means = [name for name, average in self.state.items() if average.is_floating_point()]
        counts = [name for name, average in self.state.items() if not average.is_floating_point()]
        # One call for all of them: a GPU is told of hundreds of small tensors in a few launches.
        torch._foreach_lerp_([self.state[name] for name in means], [current[name] for name in means], 1.0 - decay)
        if counts:
            torch._foreach_copy_([self.state[name] for name in counts], [current[name] for name in counts])
