"""Walks through links: in one order, whatever leads where, and to an end."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanocv_cli.folders import MOST_VISITS, files_below, folders_below, subfolders

names = st.sampled_from(["a", "b", "c", "x.png", "y.PNG", "z.txt", ".h.png", ".hidden"])
places = st.lists(names, min_size=1, max_size=4).map("/".join)


def write(root: Path, name: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).touch()


@settings(max_examples=60, deadline=None)
@given(files=st.lists(places, max_size=12), links=st.lists(st.tuples(places, places), max_size=6))
def test_any_tree_of_files_and_links_is_walked_in_order_and_to_an_end(
    files: list[str], links: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for name in files:
        try:
            write(root, name)
        except OSError:  # a file stands where a folder would have to be
            continue
    for name, target in links:
        try:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(root / target)
        except OSError:
            continue
    found = list(files_below(root, {".png"}))
    assert found == sorted(found)
    assert len(found) == len(set(found))
    for path in found:
        assert path.suffix.lower() == ".png" and not path.is_dir()
        assert not any(part.startswith(".") for part in path.relative_to(root).parts)
    plain = [Path(folder, name) for folder, _, members in os.walk(root) for name in members]
    assert {
        path for path in plain if path.suffix.lower() == ".png" and "/." not in str(path.relative_to(root.parent))
    } <= set(found)


def test_links_to_files_and_folders_are_followed_and_keep_the_names_they_have_here(tmp_path: Path) -> None:
    write(tmp_path, "store/deep/1.png")
    (tmp_path / "set" / "cat").mkdir(parents=True)
    (tmp_path / "set" / "cat" / "one.png").symlink_to(tmp_path / "store" / "deep" / "1.png")
    (tmp_path / "set" / "dog").symlink_to(tmp_path / "store" / "deep")
    (tmp_path / "alias").symlink_to("set")
    top = tmp_path / "alias"
    assert list(files_below(top, {".png"})) == [top / "cat" / "one.png", top / "dog" / "1.png"]
    assert list(folders_below(top)) == [top, top / "cat", top / "dog"]
    assert subfolders(top) == [top / "cat", top / "dog"]


def test_a_link_to_what_holds_it_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "set/cat/1.png")
    write(tmp_path, "set/dog/2.png")
    for name, target in (("up", ".."), ("top", tmp_path), ("itself", "itself"), ("here", ".")):
        (tmp_path / "set" / "cat" / name).symlink_to(target)
    assert list(files_below(tmp_path / "set" / "cat", {".png"})) == [tmp_path / "set" / "cat" / "1.png"]


def test_links_that_multiply_are_followed_so_often_only(tmp_path: Path) -> None:
    for level in range(40):
        (tmp_path / f"level{level}").mkdir()
        write(tmp_path, f"level{level}/p.png")
        for name in "ab":
            (tmp_path / f"level{level}" / name).symlink_to(f"../level{level + 1}")
    found = list(files_below(tmp_path / "level0", {".png"}))
    assert 40 < len(found) <= 40 * MOST_VISITS


def test_what_is_neither_file_nor_folder_is_named_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert [path.name for path in files_below(tmp_path, {".png"})] == ["gone.png", "loop.png", "pipe.png"]


def test_a_folder_that_cannot_be_listed_stands_for_what_it_holds(tmp_path: Path) -> None:
    assert list(files_below(tmp_path / "none", {".png"})) == [tmp_path / "none"]
    with pytest.raises(OSError):
        subfolders(tmp_path / "none")
