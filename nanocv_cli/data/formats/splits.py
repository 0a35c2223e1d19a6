"""Splits of a set that brings none: by image content, the same on every machine."""

from collections.abc import Sequence
from typing import TypeVar

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.contents import content_hash
from nanocv_cli.data.dataset import Sample
from nanocv_cli.data.labels.base import Label
from nanocv_cli.images.image_file import UnreadableImageError

LabelType = TypeVar("LabelType", bound=Label)

SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

Splits = dict[str, tuple[Sample[LabelType], ...]]


def divide(
    groups: Sequence[Sequence[Sample[LabelType]]], seed: int, val_fraction: float, test_fraction: float
) -> Splits[LabelType]:
    """Splits group by group (class by class, say), ordering each by a hash of seed and content.

    The same images give the same split on any machine, whatever their names; identical copies stay together,
    so no copy leaks from train into val. A group gives val (and test) at least one image once it has enough.
    What cannot be read goes to train, which leaves it out and says so.
    """
    parts: dict[str, list[Sample[LabelType]]] = {"train": [], "val": [], "test": []}
    for group in groups:
        copies: dict[str, list[Sample[LabelType]]] = {}
        for sample in group:
            try:
                copies.setdefault(content_hash(sample.path, str(seed).encode()), []).append(sample)
            except UnreadableImageError:
                parts["train"].append(sample)
        ordered = [copies[key] for key in sorted(copies)]
        n_test = max(1, round(test_fraction * len(ordered))) if test_fraction and len(ordered) >= 3 else 0
        n_val = max(1, round(val_fraction * len(ordered))) if len(ordered) >= 2 else 0
        for position, members in enumerate(ordered):
            part = "test" if position < n_test else "val" if position < n_test + n_val else "train"
            parts[part].extend(members)
    return {part: tuple(members) for part, members in parts.items()}


def complete_splits(splits: Splits[LabelType], config: DataConfig) -> tuple[Splits[LabelType], list[str]]:
    """Gives a set without splits (all in `all`), or without `val`, the ones it lacks, and says so."""
    if "all" in splits:
        divided = divide([splits["all"]], config.split_seed, config.val_fraction, config.test_fraction)
        return divided, [f"no splits: divided by content hash into {sizes(divided)}"]
    if "val" not in splits and "train" in splits:
        divided = divide([splits["train"]], config.split_seed, config.val_fraction, 0.0)
        found = {**splits, "train": divided["train"], "val": divided["val"]}
        return found, [f"no val split: part of train is held out, {sizes(found)}"]
    return splits, []


def sizes(splits: Splits[LabelType]) -> str:
    """`80 train, 20 val`."""
    return ", ".join(f"{len(samples)} {split}" for split, samples in splits.items() if samples)
