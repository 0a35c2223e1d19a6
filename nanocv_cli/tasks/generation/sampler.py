"""From noise to images along the velocity field: Euler's and Heun's method, with classifier-free guidance.

One evaluation of the field is one module without branches, so that torch calls it in a loop and the exported graph
holds it once, as the body of an ONNX `Loop` (`sampler_graph.py`).
"""

from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.models.checkpoint import load_network
from nanocv_cli.tasks.generation.config import Model
from nanocv_cli.tasks.generation.sampling import FlowSampler
from nanocv_cli.tasks.sampler import Images, SamplingSettings


class Evaluation(nn.Module):
    """One evaluation of the velocity field, and the step that follows from it.

    Euler: each evaluation is a step. Heun (arXiv:2206.00364): an Euler step, then one that takes it back and goes by
    the mean of both slopes; the last step stays Euler's, so that n steps are 2n - 1 evaluations.

    Args:
        network: velocities from (images, times, labels), the label -1 for none.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        index: Tensor,
        state: Tensor,
        saved: Tensor,
        slope: Tensor,
        label: Tensor,
        steps: Tensor,
        guidance: Tensor,
        heun: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The state after evaluation `index`.

        Args:
            index: of the evaluation, int64 [].
            state: images on their way, float32 [N,3,S,S].
            saved: the state before the Euler step that may be taken back, likewise.
            slope: the velocity of that step, likewise.
            label: int64 [N].
            steps: in all, int64 [].
            guidance: 1 follows the class alone; more goes further away from what has no class (arXiv:2207.12598).
            heun: bool [].

        Returns:
            state, saved and slope for the next evaluation.
        """
        second = heun & (index % 2 == 1)
        step = torch.where(heun, (index + 1) // 2, index)
        length = 1.0 / steps.float()
        velocity = self._guided(state, step.float() * length, label, guidance)
        onward = state + length * velocity
        corrected = saved + 0.5 * length * (slope + velocity)
        return torch.where(second, corrected, onward), torch.where(second, saved, state), velocity

    def _guided(self, state: Tensor, time: Tensor, label: Tensor, guidance: Tensor) -> Tensor:
        """With the class and without it, in one batch."""
        none = torch.full_like(label, -1)
        times = time.expand(2 * state.shape[0])
        both = self.network(torch.cat([state, state]), times, torch.cat([label, none])).float()
        # Not chunk(2): torch's exporter cannot halve a batch of unknown size.
        own, free = both.unflatten(0, (2, -1)).unbind(0)
        guided: Tensor = free + guidance * (own - free)
        return guided


class SamplerModule(nn.Module):
    """A velocity field with the way from noise to images.

    Args:
        network: the field.
        model: its config: how images are normalised, and the sampling that is used unless asked otherwise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, model: ModelConfig) -> None:
        super().__init__()
        self.evaluation = Evaluation(network)
        self.sampling = cast(Model, model).sampling
        self.register_buffer("mean", torch.tensor(model.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(model.std).view(1, 3, 1, 1))

    def forward(
        self,
        noise: Tensor,
        label: Tensor,
        steps: int | None = None,
        guidance: float | None = None,
        heun: bool | None = None,
        evaluations: int | None = None,
    ) -> tuple[Tensor]:
        """Maps noise float32 [N,3,S,S] and labels int64 [N] to images uint8 [N,S,S,3].

        Args:
            noise: standard normal.
            label: class indices.
            steps: of the method; None takes the config's, as for all that follow.
            guidance: see `Evaluation`.
            heun: whether Heun's method, else Euler's.
            evaluations: stop after so many; None goes all the way.
        """
        steps = steps or self.sampling.steps
        heun = self.sampling.solver == "heun" if heun is None else heun
        count = (
            evaluation_count(steps, heun) if evaluations is None else min(evaluations, evaluation_count(steps, heun))
        )
        strength = torch.tensor(self.sampling.guidance if guidance is None else guidance, device=noise.device)
        wanted, by_heun = (torch.tensor(value, device=noise.device) for value in (steps, heun))
        state = saved = slope = noise
        for index in range(count):
            state, saved, slope = self.evaluation(
                torch.tensor(index, device=noise.device), state, saved, slope, label, wanted, strength, by_heun
            )
        pixels = (state * self.std + self.mean) * 255.0
        return (pixels.clamp(0.0, 255.0).round().to(torch.uint8).permute(0, 2, 3, 1),)


def evaluation_count(steps: int, heun: bool) -> int:
    """How often the field is evaluated."""
    return 2 * steps - 1 if heun else steps


class CheckpointSampler(FlowSampler):
    """A generative model's checkpoint: the torch side of `nanocv sample`.

    Args:
        path: its file.
        device: where it runs.

    Raises:
        ModelError: the file is damaged.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        network, config, self.card = load_network(path)
        self._module = SamplerModule(network, config).to(device).eval()
        self._device = device

    def make(self, noise: NDArray[np.float32], label: NDArray[np.int64], settings: SamplingSettings) -> Images:
        with torch.inference_mode():
            start, classes = (torch.from_numpy(array).to(self._device) for array in (noise, label))
            (images,) = self._module(
                start, classes, settings.steps, settings.guidance, settings.heun, settings.evaluations
            )
        found: Images = images.cpu().numpy()
        return found
