"""What files, folders, globs and `-` name, in which order, and what is refused beforehand."""

import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from nanocv_cli.errors import RequestError
from nanocv_cli.images import sources
from nanocv_cli.images.resize import UnreadableImageError, open_image
from nanocv_cli.images.sources import Images, source_at
from tests.images.image_bytes import write_image


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of images, hidden and other files; the current folder is its parent."""
    for name in ("b.png", "a.JPG", "sub/c.png", "sub/deep/d.png", "sub-x/e.png", ".hidden.png", ".cache/f.png"):
        write_image(tmp_path / "photos" / name)
    (tmp_path / "photos" / "labels.csv").write_text("no image")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


IN_ORDER = ["photos/a.JPG", "photos/b.png", "photos/sub/c.png", "photos/sub/deep/d.png", "photos/sub-x/e.png"]


def shown(*arguments: str) -> list[str]:
    return [source.shown for source in Images(list(arguments))]


def test_a_folder_is_walked_in_order_without_hidden_and_other_files(photos: Path) -> None:
    assert shown("photos") == IN_ORDER
    assert [str(source.relative) for source in Images(["photos"])] == [
        name.removeprefix("photos/") for name in IN_ORDER
    ]


def test_arguments_keep_their_order_and_named_files_are_tried_whatever_their_name(photos: Path) -> None:
    assert shown("photos/sub", "photos/labels.csv", "photos/.hidden.png") == [
        *("photos/sub/c.png", "photos/sub/deep/d.png", "photos/labels.csv", "photos/.hidden.png")
    ]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/*.png", ["photos/b.png"]),
        ("photos/**/*.png", ["photos/b.png", "photos/sub-x/e.png", "photos/sub/c.png", "photos/sub/deep/d.png"]),
        ("photos/**", IN_ORDER),
        ("photos/s*", ["photos/sub/c.png", "photos/sub/deep/d.png", "photos/sub-x/e.png"]),
        ("photos/s*/**/d*", ["photos/sub/deep/d.png"]),
        ("photos/*/**", IN_ORDER[2:]),
        ("photos/**/**/d*", ["photos/sub/deep/d.png"]),
        ("**/sub/**/*.png", ["photos/sub/c.png", "photos/sub/deep/d.png"]),
        ("**", IN_ORDER),
    ],
)
def test_globs_name_every_image_once(photos: Path, pattern: str, expected: list[str]) -> None:
    assert sorted(shown(pattern)) == sorted(expected)


def test_a_name_with_glob_characters_is_a_file_first(photos: Path) -> None:
    write_image(photos / "[1].png")
    assert shown("photos/[1].png") == ["photos/[1].png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos", "photos/none.png"], "no file, folder or glob match: photos/none.png"),
        (["photos/*.bmp"], "no file, folder or glob match"),
        (["photos/empty"], "no images in photos/empty"),
        (["-", "-"], "one image on standard input"),
        ([""], "an argument is empty"),
        (["photos", " \t"], "an argument is empty"),
        (["x" * 5000], "no file, folder or glob match"),
    ],
)
def test_what_names_nothing_is_refused_before_anything_runs(photos: Path, arguments: list[str], message: str) -> None:
    (photos / "empty").mkdir()
    with pytest.raises(RequestError, match=message) as caught:
        Images(arguments)
    assert caught.value.hint


def test_a_link_that_leads_back_up_is_followed_once(photos: Path) -> None:
    (photos / "sub" / "back").symlink_to(photos)
    (photos / "sub-x" / "there").symlink_to(photos / "sub" / "deep")
    assert shown("photos") == [*IN_ORDER[:4], *IN_ORDER[4:], "photos/sub-x/there/d.png"]


def test_a_glob_that_spans_folders_comes_to_an_end_where_links_go_round(photos: Path) -> None:
    for name in ("one", "two"):
        (photos / "sub" / name).symlink_to(photos)
        (photos / "sub" / "deep" / name).symlink_to(photos / "sub")
    for pattern in ("photos/**", "**/*.png", "photos/**/deep/**/d*"):
        assert "photos/sub/deep/d.png" in shown(pattern)


def test_what_is_no_file_is_named_like_a_image_that_cannot_be_read(photos: Path) -> None:
    os.mkfifo(photos / "pipe.png")
    os.mkfifo(photos / "pipe.txt")
    (photos / "gone.png").symlink_to("nowhere")
    (photos / "loop.png").symlink_to("loop.png")
    found = {source.shown: source.content for source in Images(["photos"])}
    assert set(found) - set(IN_ORDER) == {"photos/pipe.png", "photos/gone.png", "photos/loop.png"}
    for name in set(found) - set(IN_ORDER):
        with pytest.raises(UnreadableImageError):
            open_image(found[name])
    assert shown("photos/pipe.txt") == ["photos/pipe.txt"]


def test_folders_are_walked_only_as_far_as_images_are_taken(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walked: list[str] = []
    listing = os.scandir

    def watched(folder: str | Path) -> object:
        walked.append(Path(folder).name)
        return listing(folder)

    images = Images(["photos"])
    monkeypatch.setattr(os, "scandir", watched)
    stream = iter(images)
    assert next(stream).shown == IN_ORDER[0]
    assert walked == ["photos"]


def test_names_that_are_no_utf8_can_be_printed(photos: Path) -> None:
    raw = os.fsencode(photos) + b"/\xff.png"
    Path(os.fsdecode(raw)).write_bytes((photos / "b.png").read_bytes())
    source = next(source for source in Images(["photos"]) if "udcff" in source.shown)
    assert source.shown == "photos/\\udcff.png"
    assert isinstance(source.content, Path)
    assert source.content.exists()


def test_standard_input_is_one_image_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LARGEST_STDIN", 10)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"0123456789")))
    (source,) = Images(["-"])
    assert (source.shown, source.file) == ("-", b"0123456789")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"0123456789X")))
    (source,) = Images(["-"])
    with pytest.raises(RequestError, match="longer than"):
        _ = source.file


class TestLists:
    """`.txt` files that name a path or URL on each line."""

    def test_lines_in_order_without_empty_ones(self, photos: Path) -> None:
        url = (photos / "b.png").as_uri()
        (photos.parent / "list.txt").write_text(f"\ufeffphotos/sub/c.png\r\n\n  {url} \nphotos/none.png")
        assert shown("list.txt", "photos/a.JPG") == [
            *("photos/sub/c.png", str(photos / "b.png"), "photos/none.png", "photos/a.JPG")
        ]
        assert [source.relative for source in Images(["list.txt"])] == [Path("c.png"), Path("b.png"), Path("none.png")]
        assert Images(["list.txt"]).roots == [Path("photos/sub/c.png"), photos / "b.png", Path("photos/none.png")]

    def test_what_a_list_names_twice_is_told_with_both_lines(self, photos: Path) -> None:
        (photos.parent / "list.txt").write_text("photos/b.png\nphotos/a.JPG\nphotos/b.png\n")
        with pytest.raises(RequestError, match=r"list.txt:3: photos/b.png stands in line 1 already"):
            Images(["list.txt"])

    @pytest.mark.parametrize(
        ("content", "message"),
        [("", "no images in"), ("\n \n", "no images in"), ("ftp://host/a.png\n", "no images can be read from")],
    )
    def test_lists_that_name_nothing(self, photos: Path, content: str, message: str) -> None:
        (photos.parent / "list.txt").write_text(content)
        with pytest.raises(RequestError, match=message):
            Images(["list.txt"])

    def test_a_file_url_is_its_path(self, photos: Path) -> None:
        assert shown((photos / "b.png").as_uri()) == [str(photos / "b.png")]


def test_a_source_is_found_again_by_its_place(photos: Path) -> None:
    for source in Images(["photos"]):
        assert source_at(source.place, photos.parent).file == photos.parent / source.file  # type: ignore[operator]
        assert source_at(source.place).shown == source.shown
    (stdin,) = Images(["-"])
    with pytest.raises(TypeError):
        _ = stdin.place
