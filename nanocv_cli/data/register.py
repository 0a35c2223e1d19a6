"""A folder of the user's own becomes a named set: one small config file."""

import re
from pathlib import Path
from typing import Any

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.config.yaml_lines import dump_yaml
from nanocv_cli.data.dataset import Dataset
from nanocv_cli.data.formats.table import read_labels, stated_format
from nanocv_cli.errors import RequestError
from nanocv_cli.files import write_text
from nanocv_cli.folders import is_folder
from nanocv_cli.untrusted import is_one_line, printable


def register(folder: Path, name: str | None, root: Path) -> tuple[Path, Dataset[Any]]:
    """Reads the folder once and writes `configs/data/<name>.yaml` with its path and class names.

    Args:
        folder: of the set; where it is a link, it is registered as that.
        name: of the set; None: the folder's.
        root: the project.

    Raises:
        RequestError: no such folder, an unusable name, or a set of that name exists.
        DataError: the folder has no labels in a format that nanocv knows.
    """
    if not is_folder(folder):
        raise RequestError(f"no folder {folder}", "give the folder that holds the images and labels")
    path = _as_named(folder)
    name = name or path.name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise RequestError(
            f"'{printable(name, 60)}' cannot be a set's name", "use letters, digits, '.', '_' and '-': --name NAME"
        )
    if not is_one_line(str(path)):
        raise RequestError(f"{printable(path)} is no path that a config can hold", "rename the folder")
    target = root / "configs" / "data" / f"{name}.yaml"
    if target.exists():
        raise RequestError(f"{target} exists already", "choose another --name, or delete the file")
    config = DataConfig(name=name, path=str(path.relative_to(root) if path.is_relative_to(root) else path))
    dataset = read_labels(config, path)
    document = {"name": name, "path": config.path, "format": stated_format(path), "classes": list(dataset.classes)}
    text = f"# {sum(map(len, dataset.splits.values()))} images.\n#   nanocv train --data {name}\n"
    write_text(target, text + dump_yaml(document))
    return target, dataset


def _as_named(folder: Path) -> Path:
    """The folder's absolute path as the user gave it: where it is a link, what it leads to may change."""
    path = folder.absolute()
    return path.resolve() if ".." in path.parts else path
