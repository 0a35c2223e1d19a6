"""Archives: hash checked, members checked, unpacked whole or not at all."""

import gzip
import hashlib
import io
import os
import random
import shutil
import stat
import struct
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanocv_cli.data import tar as tar_module
from nanocv_cli.data.archive import is_unpacked, unpack
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
    unpack(archive, folder, hashlib.md5(archive.read_bytes()).hexdigest())
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


TYPES = [tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE,
         tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE, b"D", b"V", b"?"]  # fmt: skip
PARTS = [
    "a",
    "b",
    "A",
    "..",
    ".",
    "",
    "~",
    "a\0b",
    "a\nb",
    "C:",
    "a\\b",
    "x" * 100,
    "\udcff",
    "ä",
    ".unpacked-from.json",
]
names = st.lists(st.sampled_from(PARTS), min_size=1, max_size=5).map("/".join)
links = names | st.sampled_from(["..", "../..", "/", "/etc/passwd", "a/../..", "../victim", "x" * 400])


@st.composite
def members(draw: st.DrawFn) -> bytes:
    """One member as tarfile writes it, whatever its name, type, mode and size."""
    info = tarfile.TarInfo(draw(names))
    info.type, info.linkname, info.mode = draw(st.sampled_from(TYPES)), draw(links), draw(st.integers(0, 0o7777))
    content = draw(st.binary(max_size=700)) if info.isreg() else b""
    info.size = len(content)
    if draw(st.booleans()):
        info.pax_headers = draw(
            st.dictionaries(
                st.sampled_from(["path", "size", "linkpath", "GNU.sparse.major", "comment"]), names, max_size=2
            )
        )
    form = draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
    return info.tobuf(form, "utf-8", "surrogateescape") + content + bytes(-len(content) % 512)


@settings(max_examples=150, deadline=None)
@given(
    content=st.lists(members(), min_size=1, max_size=6),
    mode=st.sampled_from(["whole", "cut", "bits"]),
    seed=st.integers(),
)
def test_no_archive_makes_anything_but_files_and_folders_inside(
    content: list[bytes], mode: str, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("place")
    (place / "victim").write_text("untouched")
    packed = bytearray(b"".join(content) + bytes(1024))
    chance = random.Random(seed)
    if mode == "cut":
        del packed[chance.randrange(len(packed)) :]
    elif mode == "bits":
        for _ in range(5):
            packed[chance.randrange(len(packed))] = chance.randrange(256)
    (place / "set.tar").write_bytes(packed)
    try:
        unpack(place / "set.tar", place / "set", None)
    except DataError as error:
        assert error.message.isprintable() and error.hint
        assert not (place / "set").exists()
    assert {entry.name for entry in place.iterdir()} <= {"victim", "set.tar", "set"}
    assert (place / "victim").read_text() == "untouched"
    for folder, folders, files in os.walk(place / "set"):
        for name in [*folders, *files]:
            status = (Path(folder) / name).lstat()
            assert stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
            assert not status.st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX)
            assert status.st_nlink == 1 or stat.S_ISDIR(status.st_mode)
    shutil.rmtree(place)


@settings(max_examples=50, deadline=None)
@given(
    files=st.dictionaries(
        st.lists(
            st.text("abcäß 花-_.(é", min_size=1, max_size=40).filter(lambda part: part not in (".", "..")),
            min_size=1,
            max_size=4,
        ).map("/".join),
        st.binary(max_size=2000),
        min_size=1,
        max_size=6,
    ),
    form=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_ordinary_archives_of_any_format_are_unpacked_byte_for_byte(
    files: dict[str, bytes], form: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("place")
    files = {
        name: content for name, content in files.items() if not any(other.startswith(f"{name}/") for other in files)
    }
    with tarfile.open(place / "set.tar", "w", format=form) as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    unpack(place / "set.tar", place / "set", None)
    found = {
        path.relative_to(place / "set").as_posix(): path.read_bytes()
        for path in (place / "set").rglob("*")
        if path.is_file() and path.name != ".unpacked-from.json"
    }
    assert found == files
    shutil.rmtree(place)


def member(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **fields: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


NEGATIVE = bytearray(member("a"))
NEGATIVE[124:136] = struct.pack(">bqxxx", -1, -512)
NEGATIVE[148:156] = f"{sum(NEGATIVE[:148]) + sum(NEGATIVE[156:]) + 8 * 32:06o}\0 ".encode()


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (member("a", content=b"1") + member("a", content=b"2"), "stands there twice"),
        (member("a", content=b"1") + member("a/b"), "as a file and a folder"),
        (member("a/b") + member("a"), "stands there twice"),
        (member("a", tarfile.SYMTYPE, linkname="..") + member("a/b"), "a is a symbolic link"),
        (member("a") + member("b", tarfile.LNKTYPE, linkname="a"), "b is a hard link"),
        (member("p", tarfile.FIFOTYPE), "p is a pipe"),
        (member("d", tarfile.CHRTYPE), "d is a device"),
        (member("s", tarfile.GNUTYPE_SPARSE), "s is a sparse file"),
        (member("x/" * 80 + "y"), "too deep"),
        (member("x" * 300), "too long"),
        (member("a\x1b[2J"), "control characters"),
        (member("a", tarfile.XHDTYPE, bytes(1 << 17)), "a name is 131,072 bytes long"),
        (member("a", tarfile.XHDTYPE, b"9999999 a=b\n"), "no list of keys and values"),
        (member("a", tarfile.XHDTYPE, b"11 size=-1\n") + member("b"), "no list|bytes long"),
        (bytes(NEGATIVE), "bytes long"),
        (member(".unpacked-from.json/a"), "is a folder"),
        (b"", "cut short"),
    ],
)
def test_what_is_refused_says_why(packed: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "set.tar").write_bytes(packed + bytes(1024) if packed else b"")
    with pytest.raises(DataError, match=reason):
        unpack(tmp_path / "set.tar", tmp_path / "set", None)
    assert [entry.name for entry in tmp_path.iterdir()] == ["set.tar"]


def test_members_and_content_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_tar(tmp_path / "set.tar", {f"{number}": b"x" * 100 for number in range(5)})
    monkeypatch.setattr(tar_module, "MOST_MEMBERS", 5)
    unpack(archive, tmp_path / "set", None)
    monkeypatch.setattr(tar_module, "LARGEST_CONTENT", 499)
    with pytest.raises(DataError, match="it has more than"):
        unpack(archive, tmp_path / "set", None)
    monkeypatch.setattr(tar_module, "MOST_MEMBERS", 4)
    with pytest.raises(DataError, match="it has more than"):
        unpack(archive, tmp_path / "set", None)
    assert len(list((tmp_path / "set").iterdir())) == 6


def test_a_compressed_archive_is_refused_before_it_grows(tmp_path: Path) -> None:
    (tmp_path / "set.tar").write_bytes(gzip.compress(member("a") + bytes(1024)))
    with pytest.raises(DataError, match="is compressed"):
        unpack(tmp_path / "set.tar", tmp_path / "set", None)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_an_archive_or_a_stamp_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "set.tar")
    with pytest.raises(DataError, match="not a regular file"):
        unpack(tmp_path / "set.tar", tmp_path / "set", None)
    (tmp_path / "set").mkdir()
    os.mkfifo(tmp_path / "set" / ".unpacked-from.json")
    assert not is_unpacked(tmp_path / "set.tar", tmp_path / "set")


def test_a_folder_that_was_not_unpacked_there_is_never_replaced(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "set.tar", {"a": b"x"})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work.txt").write_text("precious")
    with pytest.raises(DataError, match="holds files that were not unpacked there"):
        unpack(archive, tmp_path / "mine", None)
    with pytest.raises(DataError, match="is in the way"):
        unpack(archive, tmp_path / "mine" / "work.txt", None)
    assert (tmp_path / "mine" / "work.txt").read_text() == "precious"


def test_a_folder_that_is_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    (tmp_path / "set").symlink_to("large disk/set")
    for content in (b"one", b"two"):
        unpack(make_tar(tmp_path / "set.tar", {"a": content}), tmp_path / "set", None)
        assert (tmp_path / "set").is_symlink()
        assert (tmp_path / "large disk" / "set" / "a").read_bytes() == content
