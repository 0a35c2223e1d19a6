"""Images that lie in an object store, named by their URLs and fetched by fsspec (extra `remote`).

Of the many protocols that fsspec knows only those of the table are opened, each by its own package, with the
credentials that this package finds in the environment. A URL is one key or prefix: nothing in it is an archive, a
chain or a glob. Shards are opened by the same door, see `data/ranged.py`.
"""

import functools
import os
import threading
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from nanocv_cli.errors import DataError, MissingExtraError, RequestError
from nanocv_cli.images.image_file import UnreadableImageError
from nanocv_cli.images.resize import SUFFIXES
from nanocv_cli.untrusted import first_line, printable

# By scheme: the package that fsspec opens it by.
STORES = {"s3": "s3fs", "gs": "gcsfs"}
WEB = {"http": "aiohttp", "https": "aiohttp"}
PACKAGES = {**STORES, **WEB}
TIMEOUT = 30.0  # seconds, of one request
LARGEST_REMOTE = 256 << 20  # bytes; an image is fetched whole before it is opened
REACH = "see that the store can be reached and that this process has its credentials, then run it again"

_opening = threading.Lock()


def is_remote(place: str) -> bool:
    """Whether a text is a URL and no path; which stores are known is `expect_store`'s."""
    return "://" in place


def expect_store(url: str) -> None:
    """Refuses a URL of no known store, or of one whose package is not installed.

    Raises:
        RequestError: there is no such store, or the URL names nothing in it.
        MissingExtraError: fsspec or the store's package is not installed.
    """
    scheme, _, key = url.partition("://")
    if scheme not in STORES or not key.strip("/"):
        known = ", ".join(f"{scheme}://BUCKET/KEY" for scheme in STORES)
        raise RequestError(f"no images can be read from {printable(url)}", f"give a path, or {known}")
    opened_store(scheme, TIMEOUT)


def opened_store(scheme: str, timeout: float) -> Any:
    """The file system of fsspec's that URLs of a scheme belong to; there is one of each.

    Args:
        scheme: of `PACKAGES`.
        timeout: seconds that one request may take.

    Raises:
        MissingExtraError: fsspec or the scheme's package is not installed.
    """
    package = PACKAGES[scheme]
    try:
        with _opening:  # threads ask for it at once, and share it
            return _store(scheme, timeout, os.getpid())
    except ImportError as error:
        install = package if scheme in STORES else "'nanocv[remote]'"  # a store's package brings fsspec along
        raise MissingExtraError(
            f"{scheme}:// is read by {package}, which is not installed", f"pip install {install}"
        ) from error


@functools.cache
def _store(scheme: str, timeout: float, process: int) -> Any:
    """Kept here, because fsspec 2025 keeps one for each thread; a forked process cannot use its parent's."""
    import fsspec

    return fsspec.filesystem(scheme, **_bounds(scheme, timeout))


def _bounds(scheme: str, timeout: float) -> dict[str, Any]:
    """What tells a store's client how long a request may take."""
    if scheme in WEB:
        import aiohttp

        return {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=timeout)}}
    if scheme == "s3":
        return {"config_kwargs": {"connect_timeout": timeout, "read_timeout": timeout}}
    return {"requests_timeout": timeout} if scheme == "gs" else {}


def remote_images(url: str) -> list[str]:
    """The URLs of the images at or below a URL, in order of their names, hidden ones left out.

    A URL that ends in an image's suffix is that image, without a look at the store.

    Raises:
        RequestError: there are none below it.
        DataError: the store does not answer, or does not let this process list it.
    """
    if PurePosixPath(url).suffix.lower() in SUFFIXES:
        return [url]
    scheme, _, top = url.partition("://")
    try:
        keys = opened_store(scheme, TIMEOUT).find(top.strip("/"))
    except Exception as error:  # each store's package has a tree of errors of its own
        raise DataError(f"{printable(url)} cannot be listed: {first_line(error)}", REACH) from error
    below = [(PurePosixPath(key.strip("/")), key.strip("/")) for key in sorted(keys)]
    images = [
        f"{scheme}://{key}"
        for path, key in below
        if path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.parts)
    ]
    if not images:
        raise RequestError(f"no images in {printable(url)}", f"known suffixes: {' '.join(sorted(SUFFIXES))}")
    return images


@dataclass(frozen=True)
class RemoteFile:
    """An image in an object store.

    Attributes:
        url: of a store of the table.
    """

    url: str

    def read(self) -> bytes:
        """Its content.

        Raises:
            UnreadableImageError: there is no such object, or it is larger than `LARGEST_REMOTE`.
            DataError: the store does not answer, which says nothing of the image.
        """
        scheme, _, key = self.url.partition("://")
        try:
            with opened_store(scheme, TIMEOUT).open(key, "rb") as file:
                content: bytes = file.read(LARGEST_REMOTE + 1)
        except FileNotFoundError as error:
            raise UnreadableImageError("there is no such object in the store") from error
        except MissingExtraError:
            raise
        except Exception as error:  # as above
            raise DataError(f"{printable(self.url)} cannot be fetched: {first_line(error)}", REACH) from error
        if len(content) > LARGEST_REMOTE:
            raise UnreadableImageError(f"larger than the {LARGEST_REMOTE >> 20} MiB that nanocv fetches as an image")
        return content
