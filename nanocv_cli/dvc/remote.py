"""A project's default remote, and its files where it is a folder: copied without DVC, which takes 2 s to start."""

import configparser
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from nanocv_cli.dvc.records import Tracked
from nanocv_cli.errors import DataError
from nanocv_cli.files import write_bytes
from nanocv_cli.untrusted import read_regular

LARGEST_CONFIG = 1 << 20  # bytes
MD5 = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Remote:
    """Where a project's files are pushed to.

    Attributes:
        name: in DVC's config.
        url: as it stands there.
        folder: where it is a folder of this machine; None where it is reached over a network.
    """

    name: str
    url: str
    folder: Path | None

    def lacks(self, file: Tracked) -> bool:
        """Whether a look into the folder shows that a tracked file is not there; False behind a network."""
        return self.folder is not None and not (file.md5 and _place(self.folder, file.md5).is_file())


def _place(folder: Path, md5: str) -> Path:
    return folder / "files" / "md5" / md5[:2] / md5[2:]


def default_remote(root: Path) -> Remote | None:
    """The default remote by `.dvc/config` and `.dvc/config.local`; None where there is none.

    Raises:
        DataError: one of the two is no config.
    """
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    for path in (root / ".dvc" / "config", root / ".dvc" / "config.local"):
        try:
            parser.read_string(read_regular(path, LARGEST_CONFIG).decode(), str(path))
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError, configparser.Error) as error:
            raise DataError(f"{path} cannot be read as a config of DVC", "restore it from version control") from error
    name = parser.get("core", "remote", fallback="")
    url = parser.get(f"'remote \"{name}\"'", "url", fallback="")
    if not url:
        return None
    return Remote(name, url, None if "://" in url else root / ".dvc" / url)


def fetch(root: Path, wanted: Tracked, remote: Remote) -> bool:
    """Copies a tracked file from a remote that is a folder to its place, atomically.

    Returns:
        False where that remote is no folder or does not hold the file.

    Raises:
        DataError: what it holds is not the file that was recorded.
        StorageError: the file cannot be written.
    """
    if remote.folder is None or wanted.md5 is None or not MD5.fullmatch(wanted.md5):
        return False
    held = _place(remote.folder, wanted.md5)
    try:
        content = read_regular(held, wanted.size or 0)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DataError(f"{held} cannot be read: {error.strerror}", "restore it from version control") from error
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != wanted.md5:
        raise DataError(f"{held} is not the {wanted.path} that dvc.lock records", "restore it from version control")
    write_bytes(root / wanted.path, content)
    return True
