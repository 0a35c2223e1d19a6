"""Archives: hash checked, paths checked, unpacked whole or not at all."""

import io
import tarfile
from pathlib import Path

import pytest

from nanocv_cli.data.archive import is_unpacked, md5_of, unpack
from nanocv_cli.errors import DataError


def make_tar(path: Path, members: dict[str, bytes], link: str | None = None) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = tarfile.SYMTYPE, link
            tar.addfile(info)
    return path


def test_unpacking_replaces_the_folder_and_is_remembered(tmp_path: Path) -> None:
    archive, folder = tmp_path / "set.tar", tmp_path / "set"
    make_tar(archive, {"a/1.txt": b"one", "a/2.txt": b"two"})
    unpack(archive, folder, md5_of(archive))
    assert (folder / "a" / "2.txt").read_bytes() == b"two"
    assert is_unpacked(archive, folder)
    make_tar(archive, {"a/1.txt": b"changed"})
    assert not is_unpacked(archive, folder)
    unpack(archive, folder, None)
    assert [p.name for p in (folder / "a").iterdir()] == ["1.txt"]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_wrong_hash_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "set.tar", {"a": b"x"})
    with pytest.raises(DataError, match=r"but dvc\.lock records 0123"):
        unpack(archive, tmp_path / "set", "0123")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("name", ["../outside.txt", "a/../../outside.txt"])
def test_members_outside_the_folder_never_land_there(tmp_path: Path, name: str) -> None:
    archive = make_tar(tmp_path / "set.tar", {"good": b"x", name: b"evil"})
    with pytest.raises(DataError, match="not safe to unpack"):
        unpack(archive, tmp_path / "deep" / "set", None)
    assert not (tmp_path / "outside.txt").exists()
    assert not (tmp_path / "deep" / "outside.txt").exists()
    assert not (tmp_path / "deep" / "set").exists()


def test_an_absolute_member_lands_inside(tmp_path: Path) -> None:
    unpack(make_tar(tmp_path / "set.tar", {f"{tmp_path}/outside.txt": b"x"}), tmp_path / "set", None)
    assert not (tmp_path / "outside.txt").exists()
    assert len(list((tmp_path / "set").rglob("outside.txt"))) == 1


def test_links_that_lead_outside_are_refused(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "set.tar", {}, link="/etc/passwd")
    with pytest.raises(DataError, match="not safe to unpack"):
        unpack(archive, tmp_path / "set", None)


def test_a_damaged_archive_keeps_the_former_folder(tmp_path: Path) -> None:
    archive, folder = make_tar(tmp_path / "set.tar", {"a": b"x" * 5000}), tmp_path / "set"
    unpack(archive, folder, None)
    archive.write_bytes(archive.read_bytes()[:3000])
    with pytest.raises(DataError, match="no whole tar file"):
        unpack(archive, folder, None)
    assert (folder / "a").read_bytes() == b"x" * 5000
