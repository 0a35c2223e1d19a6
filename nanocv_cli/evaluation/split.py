"""One split as a network reads it: images and targets, decoded once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.data.cache import cached_split
from nanocv_cli.data.dataset import Dataset
from nanocv_cli.display import Display
from nanocv_cli.tasks.base import Task

WARNINGS_SHOWN = 10


@dataclass(frozen=True)
class Split:
    """One cached split: uint8 [n,S,S,3] and its targets [n,...]."""

    images: NDArray[np.uint8]
    targets: NDArray[Any]


def load_split(
    dataset: Dataset[Any], split: str, task: Task, cache: Path, size: int, resize: str, display: Display
) -> Split:
    """Maps one split's images, decoding them at first use, and says which could not be read."""
    samples = dataset.split(split)
    with display.bar(f"decoding {split}") as progress:
        cached = cached_split(cache, samples, size, resize, progress, display.say)
    for path, reason in cached.unreadable[:WARNINGS_SHOWN]:
        display.say(f"warning: left out of {split}: {path}: {reason}")
    if len(cached.unreadable) > WARNINGS_SHOWN:
        display.say(f"warning: {len(cached.unreadable)} unreadable images in {split}; nanocv data check names all")
    kept = [samples[place] for place in cached.kept]
    return Split(cached.images, task.targets(kept, size, resize, cache, display.say))
