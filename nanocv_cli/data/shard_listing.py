"""Images that are parts of shards, listed as files are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.data.listing import Known, Listing
from nanocv_cli.data.ranged import RangedFile
from nanocv_cli.data.shard_index import ShardIndex
from nanocv_cli.images.remote_files import is_remote

REMOTE_READERS = 32


@dataclass(frozen=True)
class NamedShard:
    """A shard, and its name in the set."""

    name: str
    file: RangedFile


@dataclass(frozen=True)
class ShardPart:
    """An image's bytes in a shard; see `listing.Part`."""

    shard: RangedFile
    offset: int
    length: int

    def read(self) -> bytes:
        """The image as its file would be.

        Raises:
            DataError: the shard cannot be read.
        """
        return self.shard.read(self.offset, self.length)


class ShardListing(Listing):
    """Images of shards, in 30 bytes each and those of their names. A shard's place is their folder's path.

    Args:
        shards: of which some images may be listed.
        files: all images of those shards by their names, with the shards as their folders.
        offset: int64 [n], where each image begins in its shard.
        size: int64 [n], bytes of it.
    """

    def __init__(
        self, shards: Sequence[NamedShard], files: Listing, offset: NDArray[np.int64], size: NDArray[np.int64]
    ) -> None:
        super().__init__(files._folders, files._names, files._folder, files._start, files._length)
        self._shards, self._offset, self._size = tuple(shards), offset, size
        # An image has changed if its shard has.
        versions = [int.from_bytes(shard.file.digest[:8], "big", signed=True) for shard in shards]
        self._known = Known(size, np.array(versions, np.int64)[self._folder], {})

    @classmethod
    def of_shards(cls, found: Sequence[tuple[NamedShard, ShardIndex]]) -> "ShardListing":
        """All images of some shards, one shard after another."""
        files = Listing.of((shard.file.place, index.names) for shard, index in found)
        offset = np.concatenate([np.array(index.offsets, np.int64) for _, index in found])
        size = np.concatenate([np.array(index.lengths, np.int64) for _, index in found])
        return cls([shard for shard, _ in found], files, offset, size)

    def take(self, places: NDArray[np.int64]) -> "ShardListing":
        """See `Listing`."""
        return ShardListing(self._shards, super().take(places), self._offset[places], self._size[places])

    def names_in(self, root: Path) -> Iterator[bytes]:
        """The names of shards in the set and of images in those, wherever the set lies."""
        return self._after([f"{shard.name}/".encode(errors="surrogateescape") for shard in self._shards])

    @property
    def readers(self) -> int:
        """See `Listing`; a server is waited for by many."""
        is_waited_for = any(is_remote(shard.file.place) for shard in self._shards)
        return max(REMOTE_READERS, super().readers) if is_waited_for else super().readers

    def part(self, place: int) -> ShardPart:
        """See `Listing`."""
        shard = self._shards[self._folder[place]].file
        return ShardPart(shard, int(self._offset[place]), int(self._size[place]))
