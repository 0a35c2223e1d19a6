"""Files that are read in parts, wherever they lie: here, behind HTTP, or in a store that fsspec knows (`s3://`, `gs://`).

Every read has a stated length and a stated time; what goes wrong is one line with the file's name.
"""

import hashlib
import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from nanocv_cli.errors import DataError, NanocvError, RequestError
from nanocv_cli.images.remote_files import PACKAGES, TIMEOUT, WEB, is_remote, opened_store
from nanocv_cli.untrusted import first_line, open_regular, printable

ATTEMPTS, PAUSE = 3, 1.0  # of a read that the network fails, and seconds between them
READ_AHEAD = 4 << 20  # of a file that is read from its start
# What stores and servers tell that changes with a file's content, in the order in which they are asked.
VERSIONS = ("ETag", "etag", "md5Hash", "Content-MD5", "Last-Modified", "LastModified", "mtime", "created")
CREDENTIALS = {
    "s3": "give credentials as for the AWS command line: AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "give credentials: gcloud auth application-default login",
}

Taken = TypeVar("Taken")


@dataclass(frozen=True)
class RangedFile:
    """A file as it was when it was looked at.

    Attributes:
        place: its URL, or its path with links resolved.
        size: bytes.
        version: changes with its content: time of change, or the ETag; empty where a server tells none.
    """

    place: str
    size: int
    version: str

    @classmethod
    def at(cls, place: str) -> "RangedFile":
        """Looks at a file.

        Raises:
            DataError: it is not there, or does not answer; a server answers no ranges.
            MissingExtraError: what reads such URLs is not installed.
            RequestError: shards cannot lie at such a URL.
        """
        if not is_remote(place):
            real = os.path.realpath(place)
            try:
                status = Path(real).stat()
            except OSError as error:
                raise _failure(place, error) from error
            return cls(real, status.st_size, str(status.st_mtime_ns))
        try:
            told = _store(place).info(place)
        except NanocvError:
            raise
        except Exception as error:  # each store raises what its own client does
            raise _failure(place, error) from error
        size = told.get("size")
        if not isinstance(size, int):
            raise DataError(f"{place}: the server does not tell its length", "put the shards on another server")
        found = cls(place, size, next((str(told[key]) for key in VERSIONS if told.get(key)), ""))
        if _scheme(place) in WEB and size > 1:
            found.read(size - 1, 1)
        return found

    @property
    def digest(self) -> bytes:
        """Changes with place, length and version."""
        return hashlib.sha256(f"{self.place}\0{self.size}\0{self.version}".encode(errors="surrogateescape")).digest()

    def go_through(self, take: Callable[[BinaryIO], Taken]) -> Taken:
        """What `take` makes of the file, which it is given from its start, read ahead.

        Where the network fails it is called again, with the file from its start.

        Raises:
            DataError: the file cannot be read.
            NanocvError: what `take` raises.
        """

        def once() -> Taken:
            with self._open("readahead") as file:
                return take(file)

        return self._tried(once)

    def read(self, start: int, length: int) -> bytes:
        """Bytes of it.

        Raises:
            DataError: they cannot be had, or are fewer than they were.
        """

        def once() -> bytes:
            with self._open("none") as file:
                file.seek(start)
                content: bytes = file.read(length)
                return content

        content = self._tried(once)
        if len(content) != length:
            raise DataError(
                f"{self.place}: {len(content):,} of {length:,} bytes could be read from byte {start:,} on",
                "it changed while it was read: bring it back, then nanocv train --resume",
            )
        return content

    def _tried(self, reading: Callable[[], Taken]) -> Taken:
        attempt = 1
        while True:
            try:
                return reading()
            except NanocvError:
                raise
            except Exception as error:  # each store raises what its own client does
                # A server that answers no ranges (fsspec's ValueError) answers none the next time.
                if attempt == ATTEMPTS or not is_remote(self.place) or isinstance(error, ValueError):
                    raise _failure(self.place, error) from error
            attempt += 1
            time.sleep(PAUSE)

    def _open(self, ahead: str) -> io.BufferedReader | Any:
        if not is_remote(self.place):
            return open_regular(self.place)
        store = _store(self.place)
        return store.open(self.place, "rb", size=self.size, cache_type=ahead, block_size=READ_AHEAD)


def _scheme(place: str) -> str:
    return place.partition("://")[0]


def _store(place: str) -> Any:
    """The file system that a URL belongs to.

    Raises:
        MissingExtraError: a package is missing.
        RequestError: shards cannot lie at such a URL.
    """
    scheme = _scheme(place)
    if scheme not in PACKAGES:
        raise RequestError(
            f"no shards can be read from {printable(place)}",
            "they lie in a folder, or at " + ", ".join(f"{known}://" for known in PACKAGES),
        )
    return opened_store(scheme, TIMEOUT)


def _failure(place: str, error: Exception) -> DataError:
    """One line for whatever a file system raised."""
    if isinstance(error, OSError) and error.strerror and not is_remote(place):
        return DataError(f"{printable(place)}: {error.strerror}", "bring it back, or write it again")
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(causes) < 10:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return DataError(f"{place} does not answer within {TIMEOUT:g} s", "see whether its server can be reached")
    if any("range requests" in str(cause) for cause in causes):
        return DataError(
            f"{place}: its server does not answer requests for a part of a file (HTTP ranges)",
            "put the shards on a server that does, or copy them here",
        )
    if "Credential" in type(error).__name__ or isinstance(error, PermissionError):
        hint = CREDENTIALS.get(_scheme(place), "give credentials, or make it readable")
        return DataError(f"{place} cannot be read: {first_line(error)}", hint)
    reason = causes[1] if isinstance(error, FileNotFoundError) and len(causes) > 1 else error
    return DataError(f"{place} cannot be read: {first_line(reason)}", "see whether it is there and can be reached")
