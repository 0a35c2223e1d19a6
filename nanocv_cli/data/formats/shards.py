"""Tar shards of images with classes (webdataset): `train-000000.tar` or `train/000000.tar`, here or at a URL."""

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from nanocv_cli.config.project import cache_folder, project_root
from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.dataset import SPLIT_FOLDERS, Dataset, Samples, class_names
from nanocv_cli.data.labels.base import ClassLabel
from nanocv_cli.data.ranged import RangedFile
from nanocv_cli.data.shard_index import ShardIndex, kept_index, made_index
from nanocv_cli.data.shard_listing import NamedShard, ShardListing
from nanocv_cli.display import Display
from nanocv_cli.errors import DataError, RequestError
from nanocv_cli.images.remote_files import is_remote
from nanocv_cli.machine import usable_processors
from nanocv_cli.untrusted import is_one_line, printable

SHARDS = "shards"
# A number keeps other archives, as of the set itself, from being taken for shards.
SHARD = re.compile(r"(?:.*[-_.])?\d+\.tar")
RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
MOST_SHARDS = 100_000
LAYOUT = "train-000000.tar and val-000000.tar, or folders train and val of shards"


def find_shards(root: Path) -> list[str]:
    """The shards of a folder, in order of their names: those whose split can be told."""
    found = [entry.name for entry in _entries(root) if SHARD.fullmatch(entry.name)]
    for split in SPLIT_FOLDERS:
        found += [f"{split}/{entry.name}" for entry in _entries(root / split) if SHARD.fullmatch(entry.name)]
    return sorted(name for name in found if _split_of(name))


def read_shards(config: DataConfig, root: Path) -> Dataset[ClassLabel]:
    """Reads what a set's shards hold; each is gone through once, images are not opened.

    Args:
        config: the set; `config.shards` names them, below `config.path`, as it must where that is a URL;
            `config.classes`, where given, fixes names and their order.
        root: the folder of the shards, where they are files.

    Raises:
        RequestError: a name that is none, or no names for a URL.
        DataError: there are no shards, one cannot be read or used, or there are fewer than two classes.
    """
    if not config.shards and is_remote(config.path):
        raise RequestError(
            f"data set {config.name}: which shards are below {config.path} has to be said",
            "--set 'data.shards=[train-{000000..000009}.tar,val-000000.tar]'",
        )
    names = _expanded(config.shards) if config.shards else find_shards(root)
    if not names:
        raise DataError(f"data set {config.name}: there are no shards in {root}", f"expected {LAYOUT}")
    by_split: dict[str, list[NamedShard]] = {}
    base = config.path.rstrip("/") if is_remote(config.path) else str(root)
    with ThreadPoolExecutor(usable_processors()) as pool:
        files = pool.map(RangedFile.at, [f"{base}/{name}" for name in names])
        for name, file in zip(names, files, strict=True):
            by_split.setdefault(_split_of(name), []).append(NamedShard(name, file))
    for split in ("train", "val"):
        if split not in by_split:
            raise DataError(f"data set {config.name} has no shards of {split} in {config.path}", f"expected {LAYOUT}")
    found = _indexes([shard for shards in by_split.values() for shard in shards], config)
    said = sorted({label for index in found.values() for label in index.labels}, key=_number_first)
    classes = class_names(config.classes or said, config.path)
    if len(classes) < 2:
        raise DataError(f"data set {config.name} has one class only ({classes[0]})", "there is nothing to tell apart")
    numbers = {text: _class_number(text, classes, config) for text in said}
    labels = [ClassLabel(number) for number in range(len(classes))]
    splits = {}
    for split, shards in by_split.items():
        held = [(shard, found[shard.name]) for shard in shards]
        chosen = tuple(labels[numbers[text]] for _, index in held for text in index.labels)
        splits[split] = Samples(ShardListing.of_shards(held), chosen)
    return Dataset(config.name, root, classes, splits)


def _indexes(shards: Sequence[NamedShard], config: DataConfig) -> dict[str, ShardIndex]:
    """What each shard holds, by its name in the set; those that were not read yet are read now."""
    folder = cache_folder(project_root()) / "shards"
    found = {shard.name: index for shard in shards if (index := kept_index(shard.file, folder))}
    missing = [shard for shard in shards if shard.name not in found]
    if missing:
        with ThreadPoolExecutor(usable_processors()) as pool, Display().bar(f"reading {config.name}") as progress:
            made = pool.map(lambda shard: made_index(shard.file, folder), missing)
            for done, (shard, index) in enumerate(zip(missing, made, strict=True), 1):
                found[shard.name] = index
                progress(done, len(missing))
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _split_of(name: str) -> str:
    """The split that a shard's folder or name begins with; empty where it says none."""
    return SPLIT_FOLDERS.get(re.split(r"[-_./]", name)[0], "")


def _expanded(patterns: Iterable[str]) -> list[str]:
    """Names of shards, each range `{000000..000009}` of them written out.

    Raises:
        RequestError: a name that could lead elsewhere, has no split, or stands twice; a range that counts backwards;
            or too many.
    """
    names: list[str] = []
    for pattern in patterns:
        for name in _written_out(pattern):
            parts = PurePosixPath(name).parts
            if not is_one_line(name) or ".." in parts or name.startswith("/") or "://" in name:
                raise RequestError(f"data.shards: '{printable(name)}' is no name below data.path", f"expected {LAYOUT}")
            if not _split_of(name):
                raise RequestError(f"data.shards: '{printable(name)}' tells no split", f"expected {LAYOUT}")
            names.append(name)
            if len(names) > MOST_SHARDS:
                raise RequestError(f"data.shards names more than {MOST_SHARDS:,}", "write larger shards")
    if len(set(names)) < len(names):
        raise RequestError("data.shards names a shard twice", "name each once")
    return names


def _written_out(pattern: str) -> Iterator[str]:
    found = RANGE.search(pattern)
    if not found:
        yield pattern
        return
    first, last = found.groups()
    if int(first) > int(last):
        raise RequestError(f"data.shards: {found[0]} counts backwards", "write the smaller number first")
    for number in range(int(first), int(last) + 1):
        yield from _written_out(f"{pattern[: found.start()]}{number:0{len(first)}d}{pattern[found.end() :]}")


def _number_first(text: str) -> tuple[bool, int, str]:
    """Numbers in their order, then names in theirs."""
    return not text.isdecimal(), int(text) if text.isdecimal() else 0, text


def _class_number(text: str, classes: tuple[str, ...], config: DataConfig) -> int:
    """Which class a label means: that of this name, else that of this number."""
    if text in classes:
        return classes.index(text)
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    raise DataError(
        f"data set {config.name}: a label says '{printable(text, 40)}', which is none of {len(classes)} classes",
        "name it in data.classes, or leave those out",
    )
