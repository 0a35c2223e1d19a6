"""The way from noise to images, on velocity fields whose answer is known."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nanocv_cli.config.loader import resolve
from nanocv_cli.tasks.generation.sampler import SamplerModule
from nanocv_cli.tasks.generation.sampling import image_noise

SIDE = 16


class Field(nn.Module):
    """A velocity that is a formula of images, times [N,1,1,1] and labels [N,1,1,1]; counts its evaluations."""

    def __init__(self, formula) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.formula = formula
        self.times: list[float] = []

    def forward(self, images: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        self.times.append(float(times[0]))
        column = (-1, 1, 1, 1)
        found: Tensor = self.formula(images, times.view(column), labels.view(column).float()) + 0 * images
        return found


def sampler(formula) -> SamplerModule:  # type: ignore[no-untyped-def]
    return SamplerModule(Field(formula), resolve(model="nanoflow").config.model)


def level(value: float) -> int:
    """What an image's value -1..1 is as a byte."""
    return round((value * 0.5 + 0.5) * 255)


def ends_at(made: SamplerModule, start: float, label: int = 0, **way: object) -> int:
    noise = torch.full((2, 3, SIDE, SIDE), start)
    (images,) = made(noise, torch.full((2,), label), **way)
    assert (images.shape, images.dtype) == ((2, SIDE, SIDE, 3), torch.uint8)
    assert (images == images[0, 0, 0, 0]).all()
    return int(images[0, 0, 0, 0])


def test_two_steps_by_hand() -> None:
    """dx/dt = x from -0.3: Euler multiplies by 1.5 twice; Heun by 1 + 0.25 * (1 + 1.5), its last step is Euler's."""
    made = sampler(lambda x, t, label: x)
    assert ends_at(made, -0.3, steps=2, heun=False, guidance=1.0) == level(-0.3 * 1.5 * 1.5)
    assert ends_at(made, -0.3, steps=2, heun=True, guidance=1.0) == level(-0.3 * 1.625 * 1.5)


def test_heun_is_nearer_to_the_exact_answer_than_euler_with_as_many_evaluations() -> None:
    made = sampler(lambda x, t, label: x * 3 * torch.cos(1.5 * t))
    exact = level(-0.1 * np.exp(2 * np.sin(1.5)))
    by_heun = ends_at(made, -0.1, steps=6, heun=True, guidance=1.0)
    by_euler = ends_at(made, -0.1, steps=11, heun=False, guidance=1.0)
    assert abs(by_heun - exact) < abs(by_euler - exact)


def test_times_of_the_evaluations() -> None:
    made = sampler(lambda x, t, label: x)
    ends_at(made, 0.0, steps=4, heun=False)
    assert made.evaluation.network.times == [0.0, 0.25, 0.5, 0.75]
    made.evaluation.network.times.clear()  # type: ignore[operator, union-attr]
    ends_at(made, 0.0, steps=3, heun=True)
    assert made.evaluation.network.times == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 2 / 3])


@pytest.mark.parametrize(("guidance", "velocity"), [(0.0, -0.1), (1.0, 0.2), (1.5, 0.35)])
def test_guidance_goes_from_no_class_through_the_class_and_beyond(guidance: float, velocity: float) -> None:
    made = sampler(lambda x, t, label: 0.1 * label)  # no class: -0.1; class 2: 0.2
    assert ends_at(made, 0.0, label=2, steps=3, guidance=guidance) == level(velocity)


def test_images_stay_in_range_and_can_be_seen_on_their_way() -> None:
    made = sampler(lambda x, t, label: torch.ones_like(x) * 9)
    assert ends_at(made, 0.0) == 255
    assert ends_at(made, 0.0, evaluations=0) == level(0.0)
    made = sampler(lambda x, t, label: torch.ones_like(x) * 0.8)
    assert ends_at(made, 0.0, steps=4, heun=False, evaluations=3) == level(0.6)


def test_a_image_has_its_own_noise_whatever_comes_with_it() -> None:
    many = image_noise(5, 0, 6, SIDE)
    assert (many.shape, many.dtype) == ((6, 3, SIDE, SIDE), np.float32)
    np.testing.assert_array_equal(image_noise(5, 2, 3, SIDE), many[2:5])
    assert not np.array_equal(image_noise(6, 0, 6, SIDE), many)
    assert abs(float(many.mean())) < 0.05
    assert float(many.std()) == pytest.approx(1.0, abs=0.05)
    # The same numbers on every machine.
    np.testing.assert_allclose(image_noise(0, 0, 1, SIDE)[0, 0, 0, :3], FIRST_NUMBERS, rtol=1e-6)


FIRST_NUMBERS = (1.11762202, -1.3871249, -0.426571608)
