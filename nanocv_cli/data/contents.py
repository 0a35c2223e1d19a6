"""Whether files hold the same, and whether one has changed."""

import hashlib
import os
from pathlib import Path

from nanocv_cli.images.image_file import UnreadableImageError, open_image_file


def content_hash(path: Path, salt: bytes = b"") -> str:
    """SHA-256 of a salt and an image file's bytes, hex; read in blocks.

    Raises:
        UnreadableImageError: it is no regular file, too large for an image, or cannot be read.
    """
    with open_image_file(path) as file:
        try:
            return hashlib.file_digest(file, lambda: hashlib.sha256(salt)).hexdigest()
        except OSError as error:
            raise UnreadableImageError(error.strerror or "cannot be read") from error


def file_state(path: Path) -> str:
    """Changes whenever a file's content may have: where it lies, links resolved, its length and time of change."""
    place = os.path.realpath(path)
    try:
        state = path.stat()
    except OSError as error:
        return f"{place}\0{error.errno}"
    return f"{place}\0{state.st_size}\0{state.st_mtime_ns}"
