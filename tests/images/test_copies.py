"""Annotated copies never hit an input or each other."""

import io
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nanocv_cli.errors import RequestError, StorageError
from nanocv_cli.images.copies import AnnotatedCopies
from nanocv_cli.images.sources import Images, Source
from tests.images.image_bytes import write_image

# What a file on Linux may be called; surrogates stand for bytes that are no UTF-8.
FILE_NAMES = st.characters(exclude_characters="/\0", exclude_categories=[]).filter(
    lambda letter: not "\ud800" <= letter <= "\udfff" or letter >= "\udc80"
)
GREY = np.full((4, 6, 3), 128, np.uint8)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("x/1.jpg", "x/1.png", "x/1.bmp", "x/deep/1.jpg", "y/1.jpg", "y/1.JPEG"):
        write_image(tmp_path / "photos" / name)
    return tmp_path / "photos"


def written(arguments: list[str], folder: Path) -> list[str]:
    images = Images(arguments)
    copies = AnnotatedCopies(folder, images)
    return [copies.write(source, GREY).relative_to(folder).as_posix() for source in images]


def test_a_folder_keeps_its_structure_and_formats(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert written(["photos"], out) == [*("x/1.png", "x/1.jpg", "x/1-2.png", "x/deep/1.jpg", "y/1.JPEG", "y/1.jpg")]
    assert Image.open(out / "x/1.jpg").format == "JPEG"
    assert Image.open(out / "y/1.JPEG").format == "JPEG"
    assert Image.open(out / "x/1-2.png").format == "PNG"
    assert Image.open(out / "x/1.png").size == (6, 4)


def test_equal_names_from_several_places_are_numbered(photos: Path, tmp_path: Path) -> None:
    write_image(photos / "z" / "1-2.jpg")
    arguments = ["photos/x/1.jpg", "photos/z/1-2.jpg", "photos/y/1.jpg", "photos/x/deep"]
    assert written(arguments, tmp_path / "out") == ["1.jpg", "1-2.jpg", "1-3.jpg", "1-4.jpg"]


def test_a_second_call_replaces_its_own_copies(photos: Path, tmp_path: Path) -> None:
    assert written(["photos/y/1.jpg"], tmp_path / "out") == written(["photos/y/1.jpg"], tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 1


@pytest.mark.parametrize(
    ("argument", "out"),
    [
        ("photos", "photos"),
        ("photos", "photos/annotated"),
        ("photos/x/1.jpg", "photos/x"),
        ("photos/x/*.jpg", "photos/x"),
        ("photos/*", "photos/y/annotated"),
        ("photos/**/1.jpg", "photos/x/deep"),
        ("link", "photos"),
    ],
)
def test_a_folder_of_inputs_is_refused(photos: Path, argument: str, out: str) -> None:
    Path("link").symlink_to(photos)
    with pytest.raises(RequestError, match="among the images"):
        AnnotatedCopies(Path(out), Images([argument]))


def test_beside_a_folder_is_fine(photos: Path) -> None:
    assert written(["photos/x"], Path("photos/x-annotated")) == ["1.png", "1.jpg", "1-2.png", "deep/1.jpg"]


def test_a_folder_that_cannot_be_made(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        written(["photos/x"], tmp_path / "file")


def test_a_failed_write_leaves_nothing_behind(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(image: Image.Image, path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(StorageError, match="No space left"):
        written(["photos/y/1.jpg"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


HOSTILE = ["a\x1b]0;title\x07.png", "-rf.jpg", "a\nb.jpeg", "con.png", "~.png", "x" * 240 + ".jpg", "end .png"]


# No file is called `.` or `..`.
NAMES = st.sampled_from(HOSTILE) | st.text(FILE_NAMES, min_size=1, max_size=60).filter(
    lambda name: name not in (".", "..")
)


@given(st.lists(NAMES, min_size=1, max_size=12))
def test_whatever_images_are_called_their_copies_lie_in_the_folder_and_differ(names: list[str]) -> None:
    paths: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nanocv_cli.images.copies.atomic_path", lambda path: nullcontext(io.BytesIO()))
        images = SimpleNamespace(roots=[])
        copies = AnnotatedCopies(Path("out"), images)  # type: ignore[arg-type]
        for name in names:
            paths.append(copies.write(Source(name, b"", Path("sub") / name), GREY))
            paths.append(copies.attach(paths[-1], "mask", GREY))
    assert all(path.parent == Path("out/sub") and path.name.isprintable() for path in paths)
    assert all(len(path.name.encode()) < 200 for path in paths)
    assert len({str(path).casefold() for path in paths}) == len(paths)


def test_a_mask_takes_no_other_images_name(photos: Path, tmp_path: Path) -> None:
    for name in ("a-mask.png", "a.png", "A.png"):
        write_image(photos / "same" / name)
    images = Images(["photos/same"])
    copies = AnnotatedCopies(tmp_path / "out", images)
    for source in images:
        copies.attach(copies.write(source, GREY), "mask", GREY)
    assert len({path.name.casefold() for path in (tmp_path / "out").iterdir()}) == 6
