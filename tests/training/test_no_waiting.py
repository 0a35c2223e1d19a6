"""No step waits for the device, and what it launches does not grow with the batch: shown on a CPU, by what is called.

A tensor counts as the device's if it is a part of the network, or an image or target that is brought to the device, or
comes of one. What is drawn on the CPU beside them may be read at will.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nanocv_cli.config.loader import resolve
from nanocv_cli.config.schema import CropAugment, RunConfig, ViewAugment
from nanocv_cli.data import augment
from nanocv_cli.data.batches import generator_for
from nanocv_cli.data.painting import AllAtOnce, paint_images, paint_masks
from nanocv_cli.data.random_views import random_views
from nanocv_cli.models.registry import build_model
from nanocv_cli.tasks.table import task_for
from nanocv_cli.training.learner import Learner

CPU = torch.device("cpu")
# What needs a value, or a number of values, before anything else can be called.
WAITING = {
    "_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2", "unique_dim",
    "unique_consecutive", "bincount", "repeat_interleave", "argwhere",
}  # fmt: skip
TARGETS = {
    "classification": torch.tensor([0, 1, 2, 1]),
    "detection": torch.tensor([[0.1, 0.1, 0.6, 0.7, 1, 0], [0.5, 0.4, 0.9, 0.9, 2, 1]]).expand(4, 2, 6).contiguous(),
    "segmentation": torch.randint(0, 3, (4, 73, 73), generator=generator_for(0, 0), dtype=torch.uint8),
    "generation": torch.tensor([0, 1, 2, 1]),
}


class OnDevice(TorchDispatchMode):
    """Follows the device's tensors through all that is called; counts those operators, and names those that wait."""

    def __init__(self, *tensors: Tensor) -> None:
        super().__init__()
        self.launched: Counter[str] = Counter()
        self.waited: list[str] = []
        self._alive = list(tensors)  # an address is nobody else's as long as its tensor lives
        self._known = {tensor.untyped_storage().data_ptr() for tensor in tensors}

    def has(self, tensor: Tensor) -> bool:
        """Whether it would be on the device."""
        return tensor.untyped_storage().data_ptr() in self._known

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if any(isinstance(leaf, Tensor) and self.has(leaf) for leaf in tree_leaves((args, kwargs))):
            name = str(function).split(".")[1]
            self.launched[name] += 1
            # Rows are picked by a mask: how many those are has to be known.
            picks = name in ("index", "index_put_") and any(
                isinstance(leaf, Tensor) and leaf.dtype == torch.bool for leaf in tree_leaves(args[1])
            )
            if name in WAITING or picks:
                self.waited.append(name)
            made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
            self._alive += made
            self._known |= {tensor.untyped_storage().data_ptr() for tensor in made} - {0}
        return result


@contextmanager
def followed(monkeypatch: pytest.MonkeyPatch, *tensors: Tensor) -> Iterator[OnDevice]:
    """`OnDevice` that also sees what reads values past all operators."""
    mode = OnDevice(*tensors)

    def noting(name: str) -> Callable[..., Any]:
        real = getattr(Tensor, name)

        def read(tensor: Tensor, *args: Any) -> Any:
            if mode.has(tensor):
                mode.waited.append(name)
            return real(tensor, *args)

        return read

    with monkeypatch.context() as patch:
        for name in ("tolist", "numpy", "cpu"):
            patch.setattr(Tensor, name, noting(name))
        with mode:
            yield mode


def learner_for(config: RunConfig) -> Learner:
    network = build_model(config.model, 3).to(memory_format=torch.channels_last)
    return Learner(network, task_for(config.model.task), config, CPU, "fp32")


@pytest.mark.parametrize(
    ("model", "overrides"),
    [
        ("lenet", ["train.augment.mix=1", "train.augment.erase=0.5", "train.augment.saturation=0.3"]),
        ("nanospot", ["train.augment.mosaic=0.5", "train.augment.zoom_out=1.3"]),
        ("nanoseg", ["train.augment.mosaic=0.5", "train.region_loss=1"]),
        ("nanoflow", []),
    ],
)
def test_a_training_step_waits_for_nothing(monkeypatch: pytest.MonkeyPatch, model: str, overrides: list[str]) -> None:
    common = ["model.input_size=64", "train.ema_decay=0.9", "train.gradient_clip=1"]
    learner = learner_for(resolve(None, model, overrides=[*common, *overrides]).config)
    images = torch.randint(0, 256, (4, 73, 73, 3), dtype=torch.uint8, generator=generator_for(1, 0))
    targets = TARGETS[learner.task.name]
    learner.learn(images, targets, 0, 0, 4)  # what is made once
    brought = [images] if learner.task.targets_on_cpu else [images, targets]
    parts = [*learner.network.parameters(), *learner.network.buffers()]
    with followed(monkeypatch, *brought, *parts) as mode:
        loss, _ = learner.learn(images, targets, 0, 1, 4)
        assert not mode.waited
        assert sum(mode.launched.values()) > 50
        assert loss.item() > 0
        assert mode.waited == ["_local_scalar_dense"]  # it is seen when something does wait


def launched(count: int, monkeypatch: pytest.MonkeyPatch, painted: bool) -> Counter[str]:
    """What augmentation calls for a batch of so many images."""
    images = torch.randint(0, 256, (count, 60, 60, 3), dtype=torch.uint8, generator=generator_for(2, 0))
    masks = images[..., 0].contiguous()
    generator = generator_for(3, 0)
    with followed(monkeypatch, images, masks) as mode:
        if painted:
            config = ViewAugment(min_scale=0.4, mosaic=0.5, zoom_out=1.3)
            views = [random_views(index, count, 60, 48, config, generator) for index in range(count)]
            batch = AllAtOnce(views, 60, 48, CPU)
            batch.masks(masks)
            augment.resize(batch.images(images), 32)
        else:
            config = CropAugment(min_area=0.3, aspect=1.4, brightness=0.2, saturation=0.2)
            crops = augment.random_crops(images, 48, config, generator)
            monkeypatch.setattr(augment, "CPU_BLOCK", count)  # on a device a batch is one block
            maps = augment.colour_matrices(count, config, generator)
            inputs = augment.normalise(crops, *maps, torch.tensor([0.5] * 3), torch.tensor([0.2] * 3))
            augment.cut_and_mix(augment.erase(inputs, 0.5, generator), generator)
    assert not mode.waited
    return mode.launched


@pytest.mark.parametrize("painted", [False, True])
def test_augmentation_launches_as_much_for_many_images_as_for_few(
    monkeypatch: pytest.MonkeyPatch, painted: bool
) -> None:
    few, many = (launched(count, monkeypatch, painted) for count in (32, 64))
    assert few == many
    assert sum(few.values()) > 10


def test_views_painted_at_once_are_those_painted_one_by_one() -> None:
    for seed in range(12):
        generator = generator_for(4, seed)
        count, side, size = 5, (40, 73, 96)[seed % 3], (32, 48, 64)[seed // 3 % 3]
        config = ViewAugment(min_scale=0.3, aspect=1.3, zoom_out=1.4, mosaic=0.5, rescale=0.8)
        views = [random_views(index, count, side, size, config, generator) for index in range(count)]
        images = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator)
        masks = torch.randint(0, 9, (count, side, side), dtype=torch.uint8, generator=generator)
        at_once = AllAtOnce(views, side, size, CPU)
        # A CPU's kernel for uint8 has weights of 8 bits; of two pixels as near, either may be the nearest.
        apart = at_once.images(images).int() - paint_images(images, views, size).int()
        assert apart.abs().max() <= 1
        assert (at_once.masks(masks) != paint_masks(masks, views, size)).float().mean() < 0.01
