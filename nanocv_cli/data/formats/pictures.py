"""Pictures of a set that is written in another format."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nanocv_cli.data.dataset import Sample


def place_pictures(samples: Sequence[Sample[Any]], folder: Path) -> list[str]:
    """Hard links the pictures into one folder, or copies them where links cannot be made.

    Returns:
        their names there; pictures of the same name are numbered.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    taken: set[str] = set()
    for sample in samples:
        name, number = sample.path.name, 1
        # Annotations are found by stem: two pictures may not share one.
        while Path(name).stem.lower() in taken:
            number += 1
            name = f"{sample.path.stem}-{number}{sample.path.suffix}"
        taken.add(Path(name).stem.lower())
        try:
            os.link(sample.path, folder / name)
        except OSError:
            shutil.copyfile(sample.path, folder / name)
        names.append(name)
    return names
