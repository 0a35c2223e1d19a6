"""One archive per set: checked against its recorded hash, unpacked with path checks, and only when it has changed."""

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

from nanocv_cli.errors import DataError
from nanocv_cli.files import folder_beside, write_json

STAMP = ".unpacked-from.json"


def md5_of(path: Path) -> str:
    """MD5 of a file, hex: the hash that DVC records (it guards against accidents, not against malice)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def is_unpacked(archive: Path, folder: Path) -> bool:
    """Whether `folder` was unpacked from `archive` as it is now, judged by the archive's size and time of change."""
    try:
        return bool(json.loads((folder / STAMP).read_text()) == _state(archive))
    except (OSError, ValueError):
        return False


def unpack(archive: Path, folder: Path, expected_md5: str | None) -> None:
    """Replaces `folder` with the content of `archive`, atomically: a killed unpacking leaves the former folder.

    Args:
        archive: a tar file.
        folder: where its content goes.
        expected_md5: what DVC recorded; None skips the check.

    Raises:
        DataError: the hash differs, the archive is damaged, or a member would land outside the folder.
        StorageError: the folder cannot be written.
    """
    if expected_md5 and (actual := md5_of(archive)) != expected_md5:
        raise DataError(
            f"{archive} has MD5 {actual}, but dvc.lock records {expected_md5}",
            f"delete {archive} and pull it again, or run dvc repro if you changed how it is made",
        )
    with folder_beside(folder) as temporary:
        try:
            with tarfile.open(archive) as tar:
                # The data filter refuses absolute paths, links and members that leave the folder (PEP 706).
                tar.extractall(temporary, filter="data")
        except tarfile.FilterError as error:
            raise DataError(f"{archive} is not safe to unpack: {error}", "do not use this archive") from error
        except (tarfile.TarError, EOFError) as error:
            raise DataError(
                f"{archive} is no whole tar file: {error}", f"delete {archive} and pull it again"
            ) from error
        adopt(temporary, folder, archive)


def adopt(content: Path, folder: Path, archive: Path) -> None:
    """Puts the finished folder `content` in the place of `folder` and stamps it as unpacked from `archive`."""
    write_json(content / STAMP, _state(archive))
    content.chmod(0o755)
    former = folder.with_name(f".{folder.name}.former")
    shutil.rmtree(former, ignore_errors=True)
    if folder.exists():
        folder.replace(former)
    content.replace(folder)
    shutil.rmtree(former, ignore_errors=True)


def _state(archive: Path) -> dict[str, int]:
    state = archive.stat()
    return {"size": state.st_size, "mtime_ns": state.st_mtime_ns}
