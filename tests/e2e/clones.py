"""Clones of this repository whose sets and models are smaller, so that they are drawn and trained in a moment."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.conftest import REPOSITORY


def clone_repository(folder: Path, smaller: Mapping[str, Mapping[str, str]]) -> Path:
    """A fresh clone as it comes, but for some words of its configs.

    Args:
        folder: where it shall lie.
        smaller: by config file, each text in it with what shall stand there instead.
    """
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
    for name, words in smaller.items():
        text = (folder / name).read_text()
        for before, after in words.items():
            assert text.count(before) == 1, f"{name} has another form: {before}"
            text = text.replace(before, after)
        (folder / name).write_text(text)
    return folder
