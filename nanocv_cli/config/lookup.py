"""From a name, a file or a folder to the values of one group."""

from pathlib import Path

from nanocv_cli.config.located import Located
from nanocv_cli.config.nearest import nearest
from nanocv_cli.config.project import config_folders
from nanocv_cli.config.schema import Defaults
from nanocv_cli.config.torchvision_names import TORCHVISION_CLASSIFIERS, TORCHVISION_DETECTORS, TORCHVISION_SEGMENTERS
from nanocv_cli.config.validation import validate
from nanocv_cli.config.yaml_lines import read_yaml
from nanocv_cli.errors import ConfigError

# What a torchvision network named on the command line starts from.
TEMPLATES = {
    **dict.fromkeys(TORCHVISION_CLASSIFIERS, "torchvision"),
    **dict.fromkeys(TORCHVISION_DETECTORS, "torchvision-detector"),
    **dict.fromkeys(TORCHVISION_SEGMENTERS, "torchvision-segmenter"),
}
YAML = (".yaml", ".yml")
TIMM = "timm/"  # before the name of one of timm's; which there are, is known where timm builds it
OTHER_NAMES = {
    "data": ", or a folder of images",
    "model": ", or any torchvision classifier, detector or segmenter, or timm/NAME",
}


def read_group(group: str, name: str, root: Path, asked_at: str = "") -> Located:
    """The values that `name` stands for in `group`, not yet typed.

    Args:
        group: data, model, train, gpu or serve.
        name: a config's name or file; for data also a folder of images, for model a torchvision network, or
            `timm/NAME`.
        root: the project's root.
        asked_at: the place of the name, for the message, where a file gives it.

    Raises:
        ConfigError: nothing of that name, or a file that cannot be read.
    """
    if group == "data" and _is_image_folder(name, root):
        folder = Path(name).resolve()
        return Located({"name": folder.name or "images", "path": str(folder), "format": "auto"}, {}, "--data")
    if group == "model" and name in TEMPLATES and _find_named(group, name, root) is None:
        template = read_yaml(_find(group, TEMPLATES[name], root, asked_at))
        return template.replaced("name", name, "--model").replaced("architecture", name, "--model")
    if group == "model" and name.startswith(TIMM) and not name.endswith(YAML):
        template, network = read_yaml(_find(group, "timm", root, asked_at)), name.removeprefix(TIMM)
        return template.replaced("name", f"timm-{network}", "--model").replaced("architecture", network, "--model")
    return read_yaml(_find(group, name, root, asked_at))


def read_defaults(root: Path) -> Located:
    """The names a bare command uses: the project's `defaults.yaml` over the shipped one.

    Raises:
        ConfigError: one of the two is not valid.
    """
    names = Located({}, {}, "configs/defaults.yaml")
    for folder in reversed(config_folders(root)):
        if _is_file(folder / "defaults.yaml"):
            read = read_yaml(folder / "defaults.yaml")
            validate(Defaults, read, "")
            names = Located(names.values | read.values, names.places | read.places, read.start)
    return names


def _is_image_folder(name: str, root: Path) -> bool:
    """A config's name comes before a folder of that name, but a name with a slash can only be a folder."""
    if not name or not _is_folder(Path(name)):
        return False
    return Path(name).name != name or _find_named("data", name, root) is None


def _find(group: str, name: str, root: Path, asked_at: str) -> Path:
    """A config's file: a path that ends in .yaml or .yml, else the project's of that name, else the shipped one."""
    place = f"{asked_at}: " if asked_at else ""
    if name.endswith(YAML):
        if not _is_file(Path(name)):
            raise ConfigError(f"{place}no file {name!r}", _hint(group, Path(name).stem, root))
        return Path(name)
    path = _find_named(group, name, root)
    if path is None:
        raise ConfigError(f"{place}no {group} config {name!r}", _hint(group, name, root))
    return path


def _hint(group: str, name: str, root: Path) -> str:
    known = sorted({path.stem for folder in config_folders(root) for path in (folder / group).glob("*.yaml")})
    wider = [*known, *TEMPLATES] if group == "model" else known
    return f"{nearest(name, wider)} known: {', '.join(known)}{OTHER_NAMES.get(group, '')}".strip()


def _find_named(group: str, name: str, root: Path) -> Path | None:
    candidates = (folder / group / f"{name}.yaml" for folder in config_folders(root))
    return next((path for path in candidates if _is_file(path)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # longer than the file system allows, or behind a folder that may not be read
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # as above
        return False
