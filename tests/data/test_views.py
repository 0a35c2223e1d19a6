"""Labels follow their pixels: rectangles of one colour each are painted, augmented, and found again; so are masks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nanocv_cli.config.schema import ViewAugment
from nanocv_cli.data.labels.masks import IGNORED
from nanocv_cli.data.views import SMALLEST_SHARE, augment_boxes, augment_masks

SIDE = 96


def painted(seed: int, count: int, objects: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rectangles that do not touch, each in a colour of its own; label = its number over all images."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros((count, SIDE, SIDE, 3), dtype=torch.uint8)
    targets = torch.full((count, objects + 1, 6), -1.0)
    for image in range(count):
        for place in range(objects):
            column, row = place % 2, place // 2
            x0, y0 = (48 * cell + 4 + int(torch.randint(8, (1,), generator=generator)) for cell in (column, row))
            x1, y1 = (side + 16 + int(torch.randint(16, (1,), generator=generator)) for side in (x0, y0))
            number = image * objects + place
            images[image, y0:y1, x0:x1] = torch.tensor([255, 40 + 12 * number, 0], dtype=torch.uint8)
            targets[image, place + 1] = torch.tensor([x0 / SIDE, y0 / SIDE, x1 / SIDE, y1 / SIDE, number, 0.0])
    return images, targets


def seen(image: torch.Tensor, number: int) -> torch.Tensor | None:
    """x0, y0, x1, y1 in pixels of a colour, if enough of it is pure."""
    wanted = torch.tensor([255, 40 + 12 * number, 0])
    ys, xs = ((image.int() - wanted).abs().amax(-1) <= 4).nonzero(as_tuple=True)
    if len(xs) < 12:
        return None
    return torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).float()


configs = st.builds(
    ViewAugment,
    flip=st.booleans(),
    rescale=st.sampled_from([0.0, 0.5, 1.0]),
    min_scale=st.floats(0.3, 1.0),
    aspect=st.floats(1.0, 1.5),
    zoom_out=st.floats(1.0, 1.6),
    mosaic=st.sampled_from([0.0, 0.5, 1.0]),
)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), config=configs, size=st.sampled_from([64, 96, 128]))
def test_boxes_lie_where_their_pixels_are(seed: int, config: ViewAugment, size: int) -> None:
    images, targets = painted(seed, 3, 4)
    views, moved = augment_boxes(images, targets, size, config, torch.Generator().manual_seed(seed))
    assert views.shape == (3, size, size, 3)
    scale = max(1.0, size / SIDE / config.min_scale**0.5)
    for image, rows in zip(views, moved, strict=True):
        rows = rows[rows[:, 4] >= 0]
        assert ((rows[:, :4] >= 0) & (rows[:, :4] <= 1)).all()
        assert (rows[:, 2:4] > rows[:, :2]).all()
        for row in rows:
            box, number = row[:4] * size, int(row[4])
            if (box[2:] - box[:2]).min() >= 8:
                x, y = ((box[:2] + box[2:]) / 2).int().tolist()
                wanted = torch.tensor([255, 40 + 12 * number, 0])
                assert (image[y, x].int() - wanted).abs().max() <= 4
            # A mosaic may show an object twice, once too little of it to count.
            found = seen(image, number) if config.mosaic == 0.0 else None
            if found is not None:
                # Interpolation blends about one pixel of the source on each side.
                assert (found - box).abs().max() <= 2.0 + scale


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_what_is_well_in_view_is_never_lost(seed: int) -> None:
    config = ViewAugment(flip=True, min_scale=0.3, aspect=1.3, zoom_out=1.3)
    images, targets = painted(seed, 2, 4)
    views, moved = augment_boxes(images, targets, SIDE, config, torch.Generator().manual_seed(seed))
    for row, (image, rows) in enumerate(zip(views, moved, strict=True)):
        labels = set(rows[rows[:, 4] >= 0][:, 4].int().tolist())
        for number in range(row * 4, row * 4 + 4):
            found = seen(image, number)
            if found is not None and (found[:2] > 3).all() and (found[2:] < SIDE - 3).all():
                assert number in labels


def test_with_everything_off_nothing_changes() -> None:
    images, targets = painted(1, 2, 4)
    config = ViewAugment(flip=False, min_scale=1.0)
    views, moved = augment_boxes(images, targets, SIDE, config, torch.Generator().manual_seed(0))
    assert torch.equal(views, images)
    torch.testing.assert_close(moved[:, :4], targets[:, 1:])


def test_mirroring_twice_is_the_image_again() -> None:
    images, targets = painted(2, 1, 4)
    config = ViewAugment(flip=True, min_scale=1.0)
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        views, moved = augment_boxes(images, targets, SIDE, config, generator)
        if not torch.equal(views, images):
            assert torch.equal(views.flip(2), images)
            torch.testing.assert_close(moved[0, 0, 0], 1.0 - targets[0, 1, 2])
            return
    pytest.fail("twenty draws never mirrored")


def test_an_object_mostly_cut_off_is_dropped_and_its_flags_are_kept_otherwise() -> None:
    images = torch.zeros((1, SIDE, SIDE, 3), dtype=torch.uint8)
    row = torch.tensor([[[0.0, 0.4, 0.2, 0.6, 3.0, 1.0]]])
    config = ViewAugment(flip=False, min_scale=0.3, rescale=1.0)
    dropped = kept = 0
    for seed in range(60):
        _, moved = augment_boxes(images, row, SIDE, config, torch.Generator().manual_seed(seed))
        if moved[0, 0, 4] < 0:
            dropped += 1
        else:
            kept += 1
            assert moved[0, 0, 4:].tolist() == [3.0, 1.0]
    assert dropped
    assert kept
    assert 0 < SMALLEST_SHARE < 1


def test_the_same_generator_gives_the_same_and_no_objects_stay_none() -> None:
    images, targets = painted(3, 3, 4)
    config = ViewAugment(min_scale=0.4, mosaic=0.5, zoom_out=1.4)
    first, second = (augment_boxes(images, targets, 64, config, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    _, moved = augment_boxes(images, torch.full((3, 1, 6), -1.0), 64, config, torch.Generator().manual_seed(5))
    assert moved.shape == (3, 1, 6)
    assert (moved == -1).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000), size=st.sampled_from([32, 48, 64]), mosaic=st.sampled_from([0.0, 1.0]),
    zoom=st.sampled_from([1.0, 1.5]), scale=st.floats(0.2, 1.0), aspect=st.sampled_from([1.0, 1.3]),
)  # fmt: skip
def test_augmentation_invents_no_label_and_keeps_masks_on_their_pixels(
    seed: int, size: int, mosaic: float, zoom: float, scale: float, aspect: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.tensor([0, 3, 7, 250], dtype=torch.uint8)[torch.randint(4, (3, 6, 6), generator=generator)]
    masks = masks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    # Grey value and label tell the same, so each pixel can be held against its label.
    images = masks.unsqueeze(-1).repeat(1, 1, 1, 3)
    options = ViewAugment(flip=True, min_scale=scale, aspect=aspect, zoom_out=zoom, mosaic=mosaic)
    views, labels = augment_masks(images, masks, size, options, torch.Generator().manual_seed(seed))
    assert set(labels.unique().tolist()) <= {0, 3, 7, 250, IGNORED}
    counted = labels != IGNORED
    right = (views[..., 0].int() - labels.int()).abs() <= 3
    # Only along edges between labels does interpolation blend.
    assert (right & counted).sum() >= 0.5 * counted.sum()
    if (mosaic, zoom, aspect) == (0.0, 1.0, 1.0):
        assert counted.all()
