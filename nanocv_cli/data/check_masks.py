"""What is wrong with masks: values that are no class, another size than the image's, nothing labelled."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from nanocv_cli.data.boxes import Boxes
from nanocv_cli.data.dataset import Sample
from nanocv_cli.data.masks import IGNORED
from nanocv_cli.data.problem import Problem
from nanocv_cli.errors import DataError


def check_mask(split: str, sample: Sample[Any], size: tuple[int, int]) -> Iterator[Problem]:
    """Looks at one image's mask; a label that has none to read is passed over.

    Args:
        split: of the sample.
        sample: the image and its label.
        size: width and height of the image's file.
    """
    if not _is_mask(sample.label):
        return
    try:
        mask = sample.label.read()
    except DataError as error:
        yield Problem("error", "mask", f"{split}: {error.message}", (str(sample.path),))
        return
    if (mask.shape[1], mask.shape[0]) != size:
        sizes = f"{mask.shape[1]}x{mask.shape[0]}, the image {size[0]}x{size[1]}"
        yield Problem("error", "size", f"{split}: {sample.path}: its mask is {sizes}", (str(sample.path),))
    if np.all(mask == IGNORED):
        yield Problem("warning", "unlabelled", f"{split}: {sample.path}: no pixel is labelled", (str(sample.path),))


def content_of(label: Any) -> str:
    """What a label says, so that the same mask in two files is the same."""
    if not _is_mask(label):
        return repr(label)
    try:
        return hashlib.sha256(label.read().tobytes()).hexdigest()
    except DataError:
        return str(label.key())


def _is_mask(label: Any) -> bool:
    return not isinstance(label, Boxes) and hasattr(label, "read")
