"""What a tar shard of labelled images holds, found by reading it once: `KEY.jpg` and `KEY.cls` side by side.

That is webdataset's layout: files whose names are the same up to the first dot are one sample, and stand together. What
was found is kept under the shard's state, with a checksum.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt

from nanocv_cli.data.ranged import RangedFile
from nanocv_cli.data.tar import BLOCK, DamagedArchiveError, UnsafeArchiveError, members
from nanocv_cli.errors import DataError
from nanocv_cli.files import write_bytes
from nanocv_cli.images.image_file import LARGEST_FILE
from nanocv_cli.images.resize import SUFFIXES
from nanocv_cli.untrusted import is_one_line, printable, read_regular

# Raised whenever a shard would be read differently.
FORMAT = 2
LABEL = ".cls"
LONGEST_LABEL = 800  # bytes
LARGEST_INDEX = 1 << 30
HINT = "write the shard again: KEY.jpg and KEY.cls side by side, one pair for each image"


class ShardIndex(BaseModel):
    """The labelled images of a shard, in their order there.

    Attributes:
        names: of the members that are images.
        labels: what the `.cls` beside each says: the number or the name of a class.
        offsets: where each image begins, bytes from the start of the shard.
        lengths: of each image, bytes.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    names: list[str]
    labels: list[str]
    offsets: list[NonNegativeInt]
    lengths: list[PositiveInt]


def kept_index(shard: RangedFile, folder: Path) -> ShardIndex | None:
    """The index of a shard in this state, where there is a whole one."""
    try:
        whole = read_regular(_place(shard, folder), LARGEST_INDEX)
        content, checksum = whole[:-32], whole[-32:]
        if hashlib.sha256(content).digest() == checksum:
            return ShardIndex.model_validate_json(content)
    except (OSError, ValueError):  # pydantic's errors are ValueErrors
        pass
    return None


def made_index(shard: RangedFile, folder: Path) -> ShardIndex:
    """Reads a shard from its start to its end, and keeps what it holds.

    Raises:
        DataError: it is cut short, no tar archive, or an image has no label; or it cannot be read.
        StorageError: the index cannot be written.
    """
    samples = shard.go_through(lambda archive: list(_samples(archive, shard)))
    if not samples:
        raise DataError(f"{shard.place}: there is no image in it", HINT)
    index = ShardIndex(
        names=[str(sample.name) for sample in samples],
        labels=[sample.label for sample in samples],
        offsets=[sample.offset for sample in samples],
        lengths=[sample.length for sample in samples],
    )
    if len(set(index.names)) < len(samples):
        raise DataError(f"{shard.place}: a name stands there twice", HINT)
    content = index.model_dump_json().encode()
    write_bytes(_place(shard, folder), content + hashlib.sha256(content).digest())
    return index


def _place(shard: RangedFile, folder: Path) -> Path:
    return folder / f"{hashlib.sha256(bytes([FORMAT]) + shard.digest).hexdigest()[:24]}.index"


@dataclass
class _Sample:
    """One sample, as far as its members have been read."""

    key: str
    name: PurePosixPath | None = None
    offset: int = 0
    length: int = 0
    label: str = ""


def _samples(archive: BinaryIO, shard: RangedFile) -> Iterator[_Sample]:
    """The images with their labels, in order."""
    position, last = 0, "its start"
    current = _Sample("")
    try:
        for member in members(archive):
            position, last = archive.tell(), str(member.name)
            if member.size is None:
                continue
            name, after = member.name, position + member.size + -member.size % BLOCK
            if any(part.startswith(".") for part in name.parts):  # as `._a.jpg`, which macOS puts beside `a.jpg`
                archive.seek(after)
                continue
            key = str(name.parent / name.name.partition(".")[0])
            if key != current.key:
                yield from _whole(current, shard)
                current = _Sample(key)
            suffix = name.suffix.lower()
            if suffix == LABEL:
                if current.label:
                    raise DataError(f"{shard.place}: {name} is a second label of {current.key}", HINT)
                current.label = _label(archive, member.size, name, shard)
            elif suffix in SUFFIXES:
                if current.name:
                    raise DataError(f"{shard.place}: {current.name} and {name} are one sample", HINT)
                if not 0 < member.size <= LARGEST_FILE:
                    raise DataError(f"{shard.place}: {name} is {member.size:,} bytes long", HINT)
                current.name, current.offset, current.length = name, position, member.size
            archive.seek(after)
    except (DamagedArchiveError, UnsafeArchiveError) as error:
        raise DataError(
            f"{shard.place}: {error}, at {last}, whose content begins at byte {position:,} of {shard.size:,}",
            "copy or write the shard again",
        ) from error
    yield from _whole(current, shard)


def _whole(sample: _Sample, shard: RangedFile) -> Iterator[_Sample]:
    """A sample that has both; what has neither, as a file of metadata, is passed over."""
    if sample.name and not sample.label:
        raise DataError(f"{shard.place}: {sample.name} has no label: no {sample.key}{LABEL} beside it", HINT)
    if sample.label and not sample.name:
        raise DataError(f"{shard.place}: {sample.key}{LABEL} has no image beside it", HINT)
    if sample.name:
        yield sample


def _label(archive: BinaryIO, size: int, name: PurePosixPath, shard: RangedFile) -> str:
    content = archive.read(size) if size <= LONGEST_LABEL else b""
    text = content.decode("utf-8", "replace").strip()
    if not text or not is_one_line(text):
        raise DataError(f"{shard.place}: {name} says no class: '{printable(text, 40)}'", HINT)
    return str(int(text)) if text.isascii() and text.isdecimal() else text
