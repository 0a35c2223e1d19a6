"""Which sets and pretrained weights a project knows, whether they are here, and how a folder becomes one."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanocv_cli.config.loader import load_group
from nanocv_cli.config.project import shipped_configs
from nanocv_cli.config.schema import DataConfig
from nanocv_cli.config.yaml_lines import dump_yaml
from nanocv_cli.data.archive import is_unpacked
from nanocv_cli.dvc.records import Tracked, tracked_files
from nanocv_cli.errors import ConfigError, RequestError
from nanocv_cli.files import write_text
from nanocv_cli.folders import is_folder
from nanocv_cli.images.remote_files import is_remote
from nanocv_cli.untrusted import is_one_line, printable

if TYPE_CHECKING:
    from nanocv_cli.data.dataset import Dataset

# Others beside them, as metrics, are kept by git.
MODEL_FILES = (".onnx", ".safetensors")


@dataclass(frozen=True)
class Entry:
    """One line of `nanocv data list`.

    Attributes:
        kind: data or weights.
        name: what `data pull` takes.
        state: ready, archive (here, not unpacked), remote, not here, or broken.
        detail: where it is, or what to do.
    """

    kind: str
    name: str
    state: str
    detail: str


def inventory(root: Path) -> list[Entry]:
    """All data configs of the project and of the package, then all weights that DVC tracks."""
    names = {path.stem for folder in (root / "configs", shipped_configs()) for path in (folder / "data").glob("*.yaml")}
    tracked = tracked_files(root)
    weights = sorted({Path(path).stem for path in tracked if path.startswith("weights/")})
    return [_set_entry(name, root) for name in sorted(names)] + [
        _weights_entry(name, root, tracked) for name in weights
    ]


def weight_files(root: Path, name: str) -> list[str]:
    """The tracked model files of a name: `weights/<name>.safetensors` and `.onnx`, or all in a folder called so."""
    return sorted(
        path
        for path in tracked_files(root)
        if (place := Path(path)).suffix in MODEL_FILES
        and ((place.parent.name == "weights" and place.stem == name) or (name != "weights" and place.parts[0] == name))
    )


def _set_entry(name: str, root: Path) -> Entry:
    try:
        config = load_group("data", name)[0]
    except ConfigError as error:
        return Entry("data", name, "broken", error.message)
    assert isinstance(config, DataConfig)
    if is_remote(config.path):
        return Entry("data", name, "remote", config.path)
    folder = root / config.path
    archive = root / config.archive if config.archive else None
    if archive and archive.is_file() and not is_unpacked(archive, folder):
        return Entry("data", name, "archive", f"{archive} is unpacked at first use")
    if folder.is_dir():
        return Entry("data", name, "ready", str(folder))
    if archive:
        return Entry("data", name, "not here", f"nanocv data pull {name}")
    return Entry("data", name, "not here", f"its folder {folder} is gone")


def _weights_entry(name: str, root: Path, tracked: dict[str, Tracked]) -> Entry:
    files = weight_files(root, name)
    if all((root / path).is_file() for path in files):
        return Entry("weights", name, "ready", ", ".join(files))
    size = sum(tracked[path].size or 0 for path in files)
    return Entry("weights", name, "not here", f"nanocv data pull {name} ({size / 1e6:.1f} MB)")


def register(folder: Path, name: str | None, root: Path) -> tuple[Path, "Dataset[Any]"]:
    """Makes a folder a named set: reads it once and writes `configs/data/<name>.yaml` with its path and class names.

    Args:
        folder: of the set; where it is a link, it is registered as that.
        name: of the set; None: the folder's.
        root: the project.

    Raises:
        RequestError: no such folder, an unusable name, or a set of that name exists.
        DataError: the folder has no labels in a format that nanocv knows.
    """
    from nanocv_cli.data.formats.table import read_labels, stated_format

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
