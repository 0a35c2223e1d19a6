"""Images of a set that is written in another format."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nanocv_cli.data.dataset import Sample
from nanocv_cli.errors import DataError
from nanocv_cli.images.image_file import UnreadableImageError, open_image_file
from nanocv_cli.untrusted import safe_name


def place_images(samples: Sequence[Sample[Any]], folder: Path) -> list[str]:
    """Hard links the images into one folder, or copies them where links cannot be made.

    An image that is a link is placed as what it links to.

    Returns:
        their names there; images of the same name are numbered, and a name that labels cannot hold is changed.

    Raises:
        DataError: an image is no regular file, or cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    taken: set[str] = set()
    for sample in samples:
        name, number = _writable(sample.path), 1
        stem, suffix = Path(name).stem, Path(name).suffix
        # Annotations are found by stem: two images may not share one.
        while Path(name).stem.lower() in taken:
            number += 1
            name = f"{stem}-{number}{suffix}"
        taken.add(Path(name).stem.lower())
        _place(sample.path, folder / name)
        names.append(name)
    return names


def _writable(path: Path) -> str:
    """An image's name, or the nearest that can be written in UTF-8 and in one line."""
    return path.name if path.name.isprintable() else safe_name(path.stem) + path.suffix.lower()


def _place(image: Path, target: Path) -> None:
    try:
        with open_image_file(image) as source:
            try:
                # Some systems would link to the link, which leads nowhere from another folder.
                os.link(os.path.realpath(image), target)
            except OSError:
                with target.open("xb") as copy:
                    shutil.copyfileobj(source, copy)
    except UnreadableImageError as error:
        raise DataError(f"{image}: {error.message}", "nanocv data check names every problem") from error
