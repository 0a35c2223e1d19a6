"""Folders of images and of masks that bear the same names.

Layouts: `{split}/images` and `{split}/masks`; `images/{split}` and `masks/{split}`; `{split}/` and `masks/{split}/` (as
the set that nanocv draws); `images` and `masks` without splits.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.dataset import SPLIT_FOLDERS, Dataset, Sample, Splits
from nanocv_cli.data.labels.masks import IGNORED, Mask, MaskFile, UnreadableMaskError, check_class_count, map_values
from nanocv_cli.data.splitting import complete_splits
from nanocv_cli.errors import DataError
from nanocv_cli.folders import files_below
from nanocv_cli.images.drawing import BACKGROUND
from nanocv_cli.images.resize import SUFFIXES
from nanocv_cli.untrusted import printable

MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")
# Masks that are opened to see what values a set uses.
LOOKED_AT = 200


def find_folders(root: Path) -> dict[str, tuple[Path, Path]]:
    """Folders of images and of masks by split (`all` where there are none); empty if it is no such set."""
    found: dict[str, tuple[Path, Path]] = {}
    for folder, split in SPLIT_FOLDERS.items():
        pairs = (
            (f"{folder}/images", f"{folder}/masks"),
            (f"images/{folder}", f"masks/{folder}"),
            (folder, f"masks/{folder}"),
        )
        for images, masks in pairs:
            if (root / images).is_dir() and (root / masks).is_dir():
                found.setdefault(split, (root / images, root / masks))
    if not found and (root / "images").is_dir() and (root / "masks").is_dir():
        found["all"] = (root / "images", root / "masks")
    return found


def read_mask_folders(config: DataConfig, root: Path) -> Dataset[Mask]:
    """Reads a set of images and masks; only some masks are opened, to see which values they use.

    Class `n` is the value `n`, but for a set whose masks use one value more than it has classes: then 0 is the
    background, a class of its own. Values in `data.mask.ignore` are ignored, and so is 255.

    Raises:
        DataError: no such folders, no masks, or values that are no class.
    """
    folders = find_folders(root)
    if not folders:
        raise DataError(f"data set {config.name} has no masks under {root}", "expected images/ and masks/ side by side")
    notes: list[str] = []
    pairs = {split: _pairs(images, masks, notes) for split, (images, masks) in folders.items()}
    files = [mask for members in pairs.values() for _, mask in members]
    if not files:
        raise DataError(f"data set {config.name}: no image has a mask of its name", f"looked in {root}")
    by_colour = config.mask.colours
    classes, table = (tuple(by_colour), ()) if by_colour else _classes(config, files)
    check_class_count(classes, root)
    colours = _colours(config, classes)
    splits: Splits[Mask] = {
        split: tuple(Sample(image, MaskFile(mask, table, colours)) for image, mask in members)
        for split, members in pairs.items()
    }
    splits, more = complete_splits(splits, config, root)
    return Dataset(config.name, root, classes, {s: found for s, found in splits.items() if found}, (*notes, *more))


def _pairs(images: Path, masks: Path, notes: list[str]) -> list[tuple[Path, Path]]:
    """Images with the mask of the same relative name."""
    by_name = {path.relative_to(masks).with_suffix(""): path for path in files_below(masks, MASK_SUFFIXES)}
    found_files = list(files_below(images, SUFFIXES))
    found = [
        (path, by_name[name]) for path in found_files if (name := path.relative_to(images).with_suffix("")) in by_name
    ]
    paired = {path for path, _ in found}
    lonely = [path for path in found_files if path not in paired]
    unused = sorted(by_name.keys() - {path.relative_to(images).with_suffix("") for path in paired})
    if lonely:
        notes.append(f"{images}: {len(lonely)} images without a mask left out ({printable(lonely[0].name)}, ...)")
    if unused:
        notes.append(
            f"{masks}: {len(unused)} masks without an image left out ({printable(by_name[unused[0]].name)}, ...)"
        )
    return found


def _classes(config: DataConfig, files: Sequence[Path]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Class names, and the class of each value."""
    ignored = {IGNORED, *config.mask.ignore}
    step = max(1, len(files) // LOOKED_AT)
    used = sorted({value for path in files[::step] for value in _values_of(path)} - ignored)
    if not used or used[-1] > IGNORED:
        raise DataError(f"data set {config.name}: its masks label nothing", "see data.mask.ignore")
    classes = config.classes or tuple(f"class {value}" for value in range(used[-1] + 1))
    if config.classes and used[-1] == len(classes):
        classes = (BACKGROUND, *classes)
    if len(classes) < 2:
        raise DataError(
            f"data set {config.name} has one class only ({classes[0]}): there is nothing to tell apart",
            "its masks need a second value, such as 0 for the background",
        )
    values = range(256)
    table = tuple(IGNORED if value in ignored else value if value < len(classes) else -1 for value in values)
    return classes, table


def _values_of(path: Path) -> set[int]:
    """None of a damaged mask: `data check` finds all of them, and training stops at the first."""
    try:
        return {value for found in map_values(path, False, np.unique) for value in found.tolist()}
    except UnreadableMaskError:
        return set()


def _colours(config: DataConfig, classes: tuple[str, ...]) -> tuple[tuple[int, int], ...] | None:
    if not config.mask.colours:
        return None
    named = [(_number(colour), classes.index(name)) for name, colour in config.mask.colours.items()]
    return (*named, *((_number(colour), IGNORED) for colour in config.mask.ignored_colours))


def _number(colour: tuple[int, int, int]) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]
