"""How a tracked file comes here: copied from the default remote, pulled by DVC's own command, or made by its stage."""

import configparser
import hashlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from nanocv_cli.dvc.records import Tracked
from nanocv_cli.errors import DataError
from nanocv_cli.files import atomic_path
from nanocv_cli.interrupts import Terminated
from nanocv_cli.untrusted import open_regular, read_regular

LARGEST_CONFIG = 1 << 20  # bytes
BLOCK = 1 << 20  # bytes
MD5 = re.compile("[0-9a-f]{32}")
STDERR = 2


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
    held, hint = _place(remote.folder, wanted.md5), "restore it from version control"
    try:
        source = open_regular(held)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DataError(f"{held} cannot be read: {error.strerror}", hint) from error
    with source, atomic_path(root / wanted.path) as temporary, temporary.open("wb") as copy:
        digest = hashlib.md5(usedforsecurity=False)
        while block := source.read(BLOCK):
            digest.update(block)
            copy.write(block)
        if digest.hexdigest() != wanted.md5:
            raise DataError(f"{held} is not the {wanted.path} that DVC recorded", hint)
    return True


def pull(root: Path, paths: list[str], remote: str | None = None) -> bool:
    """`dvc pull` of the paths; False where the remote does not hold them or cannot be reached.

    Raises:
        MissingExtraError (through the command line): DVC is not installed.
    """
    options = ["--remote", remote] if remote else []
    return _dvc(root, "pull", *options, *paths) == 0


def reproduce(root: Path, stage: str) -> None:
    """`dvc repro` of one stage and of what it depends on.

    Raises:
        DataError: the stage failed.
    """
    if _dvc(root, "repro", stage) != 0:
        raise DataError(f"dvc repro {stage} failed", "its own message stands above")


def commit(root: Path, stage: str) -> bool:
    """`dvc commit` of a stage whose files are here: kept in the cache; False where it would record a change."""
    return _dvc(root, "commit", stage) == 0


def _dvc(root: Path, *arguments: str) -> int:
    """Runs DVC in the project; all it prints goes to stderr, which leaves stdout to the command's result."""
    import dvc  # type: ignore[import-untyped]  # noqa: F401  # fails here, with a hint, where the extra is not installed

    # Stages call `nanocv`: the one of this environment, even where it is not activated.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    environment = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", *arguments]
    with subprocess.Popen(command, cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=STDERR) as process:
        try:
            return process.wait()
        except Terminated:  # sent to this process alone; the terminal's Ctrl-C has reached DVC too
            process.terminate()
            raise
