"""How a set that brings no splits is divided: by its images' content, or by their names, the same on every machine.

By content, copies of an image in one class stay together, so that none leaks from train into val, and names do not
matter; but every byte of the set has to be read. What was read of a large set is kept, so that this is so once. By name
nothing is read.
"""

import hashlib
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.config.project import cache_folder, project_root
from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.dataset import LabelType, Sample, Samples, Splits
from nanocv_cli.data.listing import FileState, Listing
from nanocv_cli.display import Display
from nanocv_cli.files import write_bytes
from nanocv_cli.images.image_file import UnreadableImageError, open_image_file
from nanocv_cli.machine import usable_processors
from nanocv_cli.untrusted import read_regular

# A set of this many bytes or files is read in more than seconds: what that costs is said before, and the hashes kept.
MANY_BYTES, MANY_FILES = 1 << 30, 20_000
SECONDS_BETWEEN_SAVES = 60.0
AT_ONCE = 4096
TIMED = 64  # files that are read to tell how long all of them take
DIGEST = np.dtype("S32")
# What is kept of a file: a hash of its state, and one of its content.
KEPT = np.dtype([("state", "S16"), ("content", DIGEST)])
LARGEST_STORE = 4 << 30
UNREADABLE = b""


def divide(
    samples: Sequence[Sample[LabelType]],
    groups: Iterable[NDArray[np.int64]],
    config: DataConfig,
    root: Path,
    test_fraction: float,
) -> dict[str, Samples[LabelType]]:
    """Splits group by group (class by class, say), ordering each by a hash of seed and content, or of seed and name.

    A group gives val (and test) at least one image once it has enough. What cannot be read goes to train, which leaves
    it out and says so.

    Args:
        samples: of the whole set.
        groups: the places of the samples of each.
        config: of the set.
        root: its folder.
        test_fraction: share that goes to test; that of val is the config's.
    """
    whole = Samples.of(samples)
    salt = str(config.split_seed).encode()
    hashes = _by_name(whole.paths, root, salt) if config.split_by == "name" else _by_content(whole.paths, salt, config)
    parts: dict[str, list[NDArray[np.int64]]] = {"train": [], "val": [], "test": []}
    for places in groups:
        parts["train"].append(places[hashes[places] == UNREADABLE])
        ordered = places[hashes[places] != UNREADABLE]
        ordered = ordered[np.argsort(hashes[ordered], kind="stable")]
        found = hashes[ordered]
        # Copies share a position.
        position = np.cumsum(np.concatenate([[False], found[1:] != found[:-1]])[: len(found)])
        count = int(position[-1]) + 1 if len(position) else 0
        n_test = max(1, round(test_fraction * count)) if test_fraction and count >= 3 else 0
        n_val = max(1, round(config.val_fraction * count)) if count >= 2 else 0
        parts["test"].append(ordered[position < n_test])
        parts["val"].append(ordered[(position >= n_test) & (position < n_test + n_val)])
        parts["train"].append(ordered[position >= n_test + n_val])
    return {part: whole.take(np.concatenate(places)) for part, places in parts.items()}


def complete_splits(splits: Splits[LabelType], config: DataConfig, root: Path) -> tuple[Splits[LabelType], list[str]]:
    """Gives a set without splits (all in `all`), or without `val`, the ones it lacks, and says so."""
    if "all" in splits:
        everything = [np.arange(len(splits["all"]))]
        divided = divide(splits["all"], everything, config, root, config.test_fraction)
        return divided, [f"no splits: divided by {split_rule(config)} into {sizes(divided)}"]
    if "val" not in splits and "train" in splits:
        divided = divide(splits["train"], [np.arange(len(splits["train"]))], config, root, 0.0)
        found = {**splits, "train": divided["train"], "val": divided["val"]}
        return found, [f"no val split: part of train is held out, {sizes(found)}"]
    return splits, []


def sizes(splits: Splits[LabelType]) -> str:
    """`80 train, 20 val`."""
    return ", ".join(f"{len(samples)} {split}" for split, samples in splits.items() if samples)


def split_rule(config: DataConfig) -> str:
    """What a set is divided by, for people."""
    return "content hash" if config.split_by == "content" else "a hash of names"


def content_hash(image: Path | bytes, salt: bytes = b"") -> str:
    """SHA-256 of a salt and an image's bytes, hex; a file is read in blocks.

    Raises:
        UnreadableImageError: it is no regular file, too large for an image, or cannot be read.
    """
    if isinstance(image, bytes):
        return hashlib.sha256(salt + image).hexdigest()
    with open_image_file(image) as file:
        try:
            return hashlib.file_digest(file, lambda: hashlib.sha256(salt)).hexdigest()
        except OSError as error:
            raise UnreadableImageError(error.strerror or "cannot be read") from error


def _by_name(paths: Listing, root: Path, salt: bytes) -> NDArray[np.bytes_]:
    names = (salt + name for name in paths.names_in(root))
    return np.fromiter((hashlib.sha256(name).digest() for name in names), DIGEST, len(paths))


def _by_content(paths: Listing, salt: bytes, config: DataConfig) -> NDArray[np.bytes_]:
    """Hashes of all files, `UNREADABLE` for those that cannot be read."""
    display = Display()
    is_large = _takes_long(paths)
    store = cache_folder(project_root()) / f"contents-{hashlib.sha256(salt).hexdigest()[:16]}.bin"
    states = np.fromiter(map(_state_hash, paths.states()), "S16", len(paths)) if is_large else None
    found = np.zeros(len(paths), DIGEST) if states is None else _kept(store, states)
    missing = np.flatnonzero(found == UNREADABLE)
    # Files that cannot be read are tried every time: a few are no cost.
    if is_large and _takes_long(unread := paths.take(missing)):
        _tell_cost(display, unread, config)
    saved = time.monotonic()
    with ThreadPoolExecutor(usable_processors()) as pool, display.bar(f"reading {config.name}") as progress:
        for first in range(0, len(missing), AT_ONCE):
            part = missing[first : first + AT_ONCE]
            found[part] = list(pool.map(lambda path: _read(path, salt), paths.take(part)))
            progress(first + len(part), len(missing))
            is_done = first + len(part) == len(missing)
            if states is not None and (is_done or time.monotonic() - saved > SECONDS_BETWEEN_SAVES):
                _keep(store, states, found)
                saved = time.monotonic()
    return found


def _takes_long(paths: Listing) -> bool:
    return len(paths) >= MANY_FILES or paths.total_bytes() >= MANY_BYTES


def _tell_cost(display: Display, paths: Listing, config: DataConfig) -> None:
    """Says before a large set is read how much that is, about how long it takes, and what takes no time."""
    places = np.unique(np.linspace(0, len(paths) - 1, TIMED).round().astype(np.int64))
    started = time.perf_counter()
    for path in paths.take(places):
        try:
            with open_image_file(path) as file:
                file.read()
        except (UnreadableImageError, OSError):
            continue
    seconds = (time.perf_counter() - started) / len(places) * len(paths)
    display.say(
        f"dividing {config.name} by content reads {len(paths):,} files, {paths.total_bytes() / 1e9:,.1f} GB, once: "
        f"up to {max(1, round(seconds / 60)):,} min; data.split_by=name reads nothing, but lets copies of an image "
        "fall into both train and val"
    )


def _read(path: Path, salt: bytes) -> bytes:
    try:
        return bytes.fromhex(content_hash(path, salt))
    except UnreadableImageError:
        return UNREADABLE


def _state_hash(state: FileState) -> bytes:
    return hashlib.blake2b(b"%b\0%d\0%d" % state, digest_size=16).digest()


def _kept(store: Path, states: NDArray[np.bytes_]) -> NDArray[np.bytes_]:
    """What is known of the contents of files in these states; `UNREADABLE` for those that nothing is known of."""
    found, table = np.zeros(len(states), DIGEST), _table(store)
    if len(table):
        places = np.searchsorted(table["state"], states).clip(0, len(table) - 1)
        is_known = table["state"][places] == states
        found[is_known] = table["content"][places[is_known]]
    return found


def _keep(store: Path, states: NDArray[np.bytes_], contents: NDArray[np.bytes_]) -> None:
    """Adds to what is kept, atomically."""
    is_read = contents != UNREADABLE
    new = np.empty(int(is_read.sum()), KEPT)
    new["state"], new["content"] = states[is_read], contents[is_read]
    both = np.concatenate([_table(store), new])
    both = both[np.unique(both["state"], return_index=True)[1]]
    content = both.tobytes()
    write_bytes(store, content + hashlib.sha256(content).digest())


def _table(store: Path) -> NDArray[np.void]:
    """What is kept, in order of the states; nothing where there is no such file, or a damaged one."""
    try:
        whole = read_regular(store, LARGEST_STORE)
    except (OSError, ValueError):
        return np.empty(0, KEPT)
    content, checksum = whole[:-32], whole[-32:]
    if hashlib.sha256(content).digest() != checksum or len(content) % KEPT.itemsize:
        return np.empty(0, KEPT)
    return np.frombuffer(content, KEPT)
