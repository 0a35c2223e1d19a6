"""Batch augmentation: geometry, colour as one matrix, mixing; all from the generator and nothing else."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nanocv_cli.config.schema import CropAugment
from nanocv_cli.data import augment
from nanocv_cli.data.batches import Batches, CachedImages, Share, generator_for

MEAN, STD = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
OFF = CropAugment(flip=False)


def noise_images(count: int = 6, side: int = 40) -> torch.Tensor:
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator_for(1, 2))


def test_with_everything_off_only_the_size_changes() -> None:
    images = noise_images(side=32)
    assert torch.equal(augment.random_crops(images, 32, OFF, generator_for(0, 0)), images)


def test_normalise_is_the_models_own_formula() -> None:
    images = noise_images()
    matrix, offset = augment.colour_matrices(len(images), OFF, generator_for(0, 0))
    found = augment.normalise(images, matrix, offset, MEAN, STD)
    expected = ((images.float() / 255 - MEAN) / STD).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0.05, 1.0),
    st.floats(1.0, 2.0),
    st.integers(16, 64),
    st.integers(8, 48),
    st.integers(1, 9),
    st.integers(0, 99),
)
def test_crops_have_the_size_asked_for_and_come_from_the_image(
    min_area: float, aspect: float, side: int, size: int, count: int, seed: int
) -> None:
    # Each image is one constant colour, so any crop of it is that colour.
    colours = torch.randint(0, 256, (count, 1, 1, 3), dtype=torch.uint8, generator=generator_for(seed, 0))
    images = colours.expand(count, side, side, 3).contiguous()
    config = CropAugment(min_area=min_area, aspect=aspect)
    crops = augment.random_crops(images, size, config, generator_for(seed, 1))
    assert crops.shape == (count, size, size, 3)
    assert crops.dtype == torch.uint8
    assert torch.equal(crops, colours.expand(count, size, size, 3))


def test_crops_that_are_not_resized_are_windows_of_the_image() -> None:
    image = torch.arange(20, dtype=torch.uint8).view(20, 1) + 10 * torch.arange(20, dtype=torch.uint8)
    images = image.view(1, 20, 20, 1).expand(40, 20, 20, 3).contiguous()
    crops = augment.random_crops(images, 16, CropAugment(rescale=0, flip=False, min_area=0.1), generator_for(3, 0))
    windows = {(y, x): image[y : y + 16, x : x + 16] for y in range(5) for x in range(5)}
    places = [next(at for at, window in windows.items() if torch.equal(crop[..., 0], window)) for crop in crops]
    assert len(set(places)) > 10


def test_half_precision_is_the_rounded_result() -> None:
    images = torch.randint(0, 256, (5, 8, 8, 3), dtype=torch.uint8, generator=generator_for(0, 0))
    for config in (CropAugment(brightness=0.5), CropAugment(saturation=0.5)):
        maps = augment.colour_matrices(5, config, generator_for(1, 0))
        exact = augment.normalise(images, *maps, MEAN, STD)
        half = augment.normalise(images, *maps, MEAN, STD, torch.bfloat16)
        assert half.dtype == torch.bfloat16
        assert torch.equal(half, exact.bfloat16())


def test_flips_mirror_about_half_of_the_images() -> None:
    images = torch.arange(16, dtype=torch.uint8).view(1, 1, 16, 1).expand(400, 16, 16, 3).contiguous()
    crops = augment.random_crops(images, 16, CropAugment(flip=True), generator_for(3, 0))
    mirrored = (crops[:, 0, 0, 0] == 15).sum().item()
    assert 150 < mirrored < 250
    assert torch.equal(crops[crops[:, 0, 0, 0] == 15].flip(2), crops[:1].expand(mirrored, -1, -1, -1).sort(2).values)


def test_colour_changes_stay_within_their_strength() -> None:
    config = CropAugment(brightness=0.2)
    matrix, offset = augment.colour_matrices(500, config, generator_for(0, 0))
    gains = matrix.diagonal(dim1=1, dim2=2)
    assert gains.min() >= 0.8
    assert gains.max() <= 1.2
    assert gains.std() > 0.05
    assert torch.count_nonzero(offset) == 0
    assert torch.count_nonzero(matrix - torch.diag_embed(gains)) == 0


def test_saturation_keeps_grey_grey() -> None:
    matrix, offset = augment.colour_matrices(50, CropAugment(saturation=0.9), generator_for(0, 0))
    grey = torch.full((50, 1, 3), 0.4) @ matrix + offset
    torch.testing.assert_close(grey, torch.full((50, 1, 3), 0.4))


def test_contrast_turns_about_mid_grey() -> None:
    matrix, offset = augment.colour_matrices(50, CropAugment(contrast=0.5), generator_for(0, 0))
    torch.testing.assert_close(torch.full((50, 1, 3), 0.5) @ matrix + offset, torch.full((50, 1, 3), 0.5))
    assert (torch.zeros(50, 1, 3) @ matrix + offset).std() > 0.05


def test_erasing_blanks_rectangles_of_some_images() -> None:
    images = torch.ones(200, 3, 20, 20)
    erased = augment.erase(images.clone(), 0.5, generator_for(0, 0))
    touched = (erased == 0).flatten(1).any(1)
    assert 70 < touched.sum() < 130
    assert (erased[touched] == 0).float().mean() < 0.4
    assert torch.equal(augment.erase(images.clone(), 0.0, generator_for(0, 0)), images)


def test_cut_and_mix_reports_the_share_that_is_left() -> None:
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 50, 50).contiguous()
    for seed in range(20):
        mixed, share = augment.cut_and_mix(images, generator_for(seed, 0))
        own = (mixed == images).float().mean().item()
        assert own == pytest.approx(share, abs=1e-6)
        foreign = mixed != images
        assert torch.equal(mixed[foreign], images.roll(1, 0)[foreign])


def test_a_batch_depends_on_its_generator_alone() -> None:
    config = CropAugment(min_area=0.4, aspect=1.3, brightness=0.3, saturation=0.3)

    def run() -> torch.Tensor:
        generator = generator_for(5, 6, 7)
        crops = augment.random_crops(noise_images(), 24, config, generator)
        return augment.normalise(crops, *augment.colour_matrices(6, config, generator), MEAN, STD)

    torch.manual_seed(1)
    first = run()
    torch.rand(10)
    assert torch.equal(first, run())


def test_an_epoch_resumed_in_its_middle_goes_on_as_it_would_have() -> None:
    images = np.arange(50 * 2 * 2 * 3, dtype=np.uint32).astype(np.uint8).reshape(50, 2, 2, 3)
    batches = Batches(CachedImages(images), np.arange(50), batch_size=8, seed=3)
    whole = [targets.tolist() for _, targets in batches.epoch(2)]
    assert len(whole) == batches.per_epoch == 6
    assert [targets.tolist() for _, targets in batches.epoch(2, first=4)] == whole[4:]
    assert len({label for batch in whole for label in batch}) == 48
    assert [targets.tolist() for _, targets in batches.epoch(3)] != whole


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_the_very_batches_that_one_would_read(world: int) -> None:
    images, targets = np.zeros((44, 2, 2, 3), np.uint8), np.arange(44)
    alone = Batches(CachedImages(images), targets, 8, 0)
    shared = [Batches(CachedImages(images), targets, 8, 0, rank, world) for rank in range(world)]
    assert {batches.per_epoch for batches in shared} == {alone.per_epoch} == {5}
    steps = zip(*(batches.epoch(0) for batches in shared), strict=True)
    for (_, whole), parts in zip(alone.epoch(0), steps, strict=True):
        assert torch.equal(whole, torch.cat([labels for _, labels in parts]))
        assert [len(labels) for _, labels in parts] == [8 // world] * world
    assert shared[0].images_seen(1, 2) == alone.images_seen(1, 2) == 56


def test_who_needs_the_whole_batch_reads_it_on_each_process() -> None:
    images = CachedImages(np.zeros((9, 2, 2, 3), np.uint8))
    batches = [Batches(images, np.arange(9), 4, 0, rank, 2, True) for rank in (0, 1)]
    left, right = (torch.cat([labels for _, labels in each.epoch(1)]) for each in batches)
    assert torch.equal(left, right) and len(left) == 8


def test_a_share_divides_evenly_and_goes_on_at_the_first_image_after_the_last() -> None:
    share = Share(3, 5, 10)
    parts = share.parts(3)
    assert [part.places for part in parts] == [[3], [4, 5], [6, 7]]
    assert torch.equal(Share(9, 3, 10).of(torch.arange(10)), torch.tensor([9, 0, 1]))
    assert Share(9, 3, 10).places == [9, 0, 1]


def test_a_split_smaller_than_a_batch_is_one_batch() -> None:
    batches = Batches(CachedImages(np.zeros((3, 2, 2, 3), np.uint8)), np.arange(3), batch_size=8, seed=0)
    assert [sorted(labels.tolist()) for _, labels in batches.epoch(0)] == [[0, 1, 2]]
