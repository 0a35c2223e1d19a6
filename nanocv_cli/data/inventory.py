"""Which sets and pretrained weights a project knows, and whether they are here."""

from dataclasses import dataclass
from pathlib import Path

from nanocv_cli.config.loader import load_group
from nanocv_cli.config.project import shipped_configs
from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.archive import is_unpacked
from nanocv_cli.dvc.records import Tracked, tracked_files
from nanocv_cli.errors import ConfigError

# Others beside them, as metrics, are kept by git.
MODEL_FILES = (".onnx", ".safetensors")


@dataclass(frozen=True)
class Entry:
    """One line of `nanocv data list`.

    Attributes:
        kind: data or weights.
        name: what `data pull` takes.
        state: ready, archive (here, not unpacked), not here, or broken.
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
    """The tracked files of pretrained weights `name`: `weights/<name>.safetensors`, `.onnx`."""
    return sorted(
        path
        for path in tracked_files(root)
        if Path(path).parent.name == "weights" and Path(path).stem == name and Path(path).suffix in MODEL_FILES
    )


def _set_entry(name: str, root: Path) -> Entry:
    try:
        config = load_group("data", name)[0]
    except ConfigError as error:
        return Entry("data", name, "broken", error.message)
    assert isinstance(config, DataConfig)
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
