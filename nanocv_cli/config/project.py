"""Where the project is, and where the configs that nanocv ships lie. Standard library only."""

import os
from pathlib import Path

GROUPS = ("data", "model", "train", "gpu", "serve")


def project_root(start: Path | None = None) -> Path:
    """The nearest folder, from `start` (the current one) upwards, with `dvc.yaml`, `.dvc/` or `configs/<group>/`.

    Where there is none, `start` itself: a newcomer's empty folder becomes a project as files are written to it.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() or (folder / ".dvc" / "config").is_file():
            return folder
        if any((folder / "configs" / group).is_dir() for group in GROUPS):
            return folder
    return here


def shipped_configs() -> Path:
    """The configs inside an installed package, or those of the checkout that the package is run from."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "shipped_configs"
    return inside if inside.is_dir() else package.parent / "configs"


def config_folders(root: Path) -> list[Path]:
    """Where config files are looked for, in order: the project's, then the shipped ones."""
    return [root / "configs", shipped_configs()]


def shown(path: Path) -> str:
    """A path as messages name it: relative to the current folder, `<nanocv>/...` for shipped configs, else in full."""
    # Unlike `Path.resolve`, this bears a link that leads to itself.
    resolved, here = Path(os.path.realpath(path)), Path.cwd().resolve()
    if resolved.is_relative_to(here):
        return str(resolved.relative_to(here))
    if resolved.is_relative_to(shipped_configs()):
        return f"<nanocv>/{resolved.relative_to(shipped_configs())}"
    return str(path)


def cache_folder(root: Path) -> Path:
    """The folder of decoded images and other things that can be made again: `NANOCV_CACHE`, else `.cache/nanocv`."""
    return Path(os.environ.get("NANOCV_CACHE") or root / ".cache" / "nanocv")
