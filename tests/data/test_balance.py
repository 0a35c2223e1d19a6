"""Rare classes are drawn more often, as far as asked, by seed and epoch alone."""

from collections import Counter

import numpy as np
import pytest
import torch

from nanocv_cli.data.balance import image_weights, imbalance
from nanocv_cli.data.batches import Batches, CachedImages
from nanocv_cli.data.labels.base import ClassLabel
from nanocv_cli.data.labels.boxes import Boxes
from nanocv_cli.data.labels.masks import MaskFile
from nanocv_cli.errors import RequestError

COMMON, RARE = ClassLabel(0), ClassLabel(1)
LABELS = [COMMON] * 4000 + [RARE] * 4


def batches(balance: float, rank: int = 0, world: int = 1) -> Batches:
    images = CachedImages(np.zeros((len(LABELS), 1, 1, 3), np.uint8))
    weights = image_weights(LABELS, balance)
    return Batches(images, np.arange(len(LABELS)), 182, 7, rank, world, weights=weights)


def epoch(balance: float, number: int, rank: int = 0, world: int = 1) -> list[int]:
    return torch.cat([places for _, places in batches(balance, rank, world).epoch(number)]).tolist()


@pytest.mark.parametrize(("balance", "rare"), [(0.0, 4), (0.5, 123), (1.0, 2002)])
def test_a_class_of_a_thousandth_has_the_share_that_is_asked_for(balance: float, rare: int) -> None:
    seen = epoch(balance, 0)
    assert len(seen) == len(LABELS)
    assert abs(sum(place >= 4000 for place in seen) - rare) <= 1
    counts = Counter(seen)
    assert max(counts[place] for place in range(4000)) <= 1
    assert max(counts.values()) - min(counts[place] for place in range(4000, 4004)) <= 1 + (counts[4000] == 1)


def test_an_epoch_is_a_function_of_seed_and_number_whoever_takes_part() -> None:
    alone = epoch(1.0, 3)
    assert epoch(1.0, 3) == alone != epoch(1.0, 4)
    shared = [epoch(1.0, 3, rank, 2) for rank in (0, 1)]
    parts = [np.array(share).reshape(-1, 91) for share in shared]
    assert np.concatenate(parts, 1).ravel().tolist() == alone
    resumed = [places for _, places in batches(1.0).epoch(3, first=20)]
    assert torch.cat(resumed).tolist() == alone[20 * 182 :]


def test_the_rarest_class_in_an_image_counts_and_empty_images_are_common() -> None:
    box = (0.0, 0.0, 1.0, 1.0)

    def boxes(*classes: int) -> Boxes:
        none = (False,) * len(classes)
        return Boxes((9, 9), (box,) * len(classes), classes, none, none)

    weights = image_weights([boxes(0), boxes(0, 0), boxes(0), boxes(0, 1), boxes()], 1.0)
    assert weights is not None and weights.tolist() == [0.25, 0.25, 0.25, 1.0, 0.25]
    assert image_weights([boxes(0)], 0.0) is None


def test_masks_are_refused(tmp_path: object) -> None:
    with pytest.raises(RequestError, match="masks show many classes each"):
        image_weights([MaskFile(None, ())], 0.5)  # type: ignore[arg-type]


def test_very_different_sizes_are_told() -> None:
    assert imbalance(LABELS, ["cat", "lynx"]).startswith(
        "class cat has 1,000 times the images of class lynx (4,000 to 4): train.balance=0.5"
    )
    assert not imbalance(LABELS[3800:], ["cat", "lynx"]) and not imbalance([], [])
