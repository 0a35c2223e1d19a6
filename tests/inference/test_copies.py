"""Annotated copies never hit an input or each other."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nanocv_cli.errors import RequestError, StorageError
from nanocv_cli.inference.copies import AnnotatedCopies
from nanocv_cli.inference.sources import Pictures
from tests.inference.pictures import write_picture

GREY = np.full((4, 6, 3), 128, np.uint8)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("x/1.jpg", "x/1.png", "x/1.bmp", "x/deep/1.jpg", "y/1.jpg", "y/1.JPEG"):
        write_picture(tmp_path / "photos" / name)
    return tmp_path / "photos"


def written(arguments: list[str], folder: Path) -> list[str]:
    pictures = Pictures(arguments)
    copies = AnnotatedCopies(folder, pictures)
    return [copies.write(source, GREY).relative_to(folder).as_posix() for source in pictures]


def test_a_folder_keeps_its_structure_and_formats(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert written(["photos"], out) == [*("x/1.png", "x/1.jpg", "x/1-2.png", "x/deep/1.jpg", "y/1.JPEG", "y/1.jpg")]
    assert Image.open(out / "x/1.jpg").format == "JPEG"
    assert Image.open(out / "y/1.JPEG").format == "JPEG"
    assert Image.open(out / "x/1-2.png").format == "PNG"
    assert Image.open(out / "x/1.png").size == (6, 4)


def test_equal_names_from_several_places_are_numbered(photos: Path, tmp_path: Path) -> None:
    write_picture(photos / "z" / "1-2.jpg")
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
    with pytest.raises(RequestError, match="among the pictures"):
        AnnotatedCopies(Path(out), Pictures([argument]))


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
    assert list((tmp_path / "out").iterdir()) == []
