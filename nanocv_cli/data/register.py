"""A folder of the user's own becomes a named set: one small config file."""

import re
from pathlib import Path
from typing import Any

import yaml

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.dataset import Dataset
from nanocv_cli.data.formats.detect import detect_format
from nanocv_cli.data.formats.labels import read_labels
from nanocv_cli.errors import RequestError
from nanocv_cli.files import write_text


def register(folder: Path, name: str, root: Path) -> tuple[Path, Dataset[Any]]:
    """Reads the folder once and writes `configs/data/<name>.yaml` with its path and class names.

    Raises:
        RequestError: no such folder, an unusable name, or a set of that name exists.
        DataError: the folder has no labels in a format that nanocv knows.
    """
    if not folder.is_dir():
        raise RequestError(f"no folder {folder}", "give the folder that holds the pictures and labels")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise RequestError(f"{name!r} cannot be a set's name", "use letters, digits, '.', '_' and '-': --name NAME")
    target = root / "configs" / "data" / f"{name}.yaml"
    if target.exists():
        raise RequestError(f"{target} exists already", "choose another --name, or delete the file")
    path = _as_named(folder)
    config = DataConfig(name=name, path=str(path.relative_to(root) if path.is_relative_to(root) else path))
    dataset = read_labels(config, path)
    document = {"name": name, "path": config.path, "format": detect_format(path), "classes": list(dataset.classes)}
    text = f"# {sum(map(len, dataset.splits.values()))} pictures.\n#   nanocv train --data {name}\n"
    write_text(target, text + yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    return target, dataset


def _as_named(folder: Path) -> Path:
    """The folder's absolute path as the user gave it: where it is a link, what it leads to may change."""
    path = folder.absolute()
    return path.resolve() if ".." in path.parts else path
