"""Files named in few bytes each: the same files as paths, and a digest that changes whenever one of them may have."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nanocv_cli.data import listing
from nanocv_cli.data.listing import Listing
from nanocv_cli.folders import files_below, runs_below

NAMES = ["a/1.png", "a/2.png", "a/sub/3.png", "a/z.png", "b/ü.png", "b/\udcff.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.write_bytes(b"x" * number)
        except OSError:  # a file system that takes text alone
            continue
    return tmp_path / "set"


def listed(folder: Path) -> Listing:
    return Listing.of(runs_below(folder, {".png"}))


def test_it_holds_the_paths_and_any_part_of_them(folder: Path) -> None:
    found, paths = listed(folder), list(files_below(folder, {".png"}))
    assert list(found) == paths
    assert [found[place] for place in range(len(found))] == paths
    assert list(found[1:4]) == paths[1:4]
    assert list(found.take(np.array([4, 0, 2]))) == [paths[4], paths[0], paths[2]]
    assert list(Listing.joined([found[3:], Listing.of([]), found[:3]])) == paths[3:] + paths[:3]
    assert list(Listing.of_paths(paths)) == paths
    assert [os.fsdecode(name) for name in found.names_in(folder / "a")][:3] == ["1.png", "2.png", "sub/3.png"]
    assert [os.fsdecode(name) for name in found.names_in(folder / "a")][4] == "../b/ü.png"
    assert found.total_bytes() == sum(path.stat().st_size for path in paths)


CHANGES: dict[str, Callable[[Path], object]] = {
    "longer": lambda folder: (folder / "a" / "1.png").write_bytes(b"longer"),
    "written again": lambda folder: os.utime(folder / "a" / "2.png", ns=(1, 1)),
    "renamed": lambda folder: (folder / "a" / "1.png").rename(folder / "a" / "0.png"),
    "gone": lambda folder: (folder / "a" / "z.png").unlink(),
    "moved": lambda folder: (folder / "a" / "1.png").rename(folder / "b" / "1.png"),
    "a link to nothing": lambda folder: ((folder / "a" / "1.png").unlink(), (folder / "a" / "1.png").symlink_to("no")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_its_digest_changes_with_any_file(change: str, folder: Path) -> None:
    before = listed(folder).digest()
    assert listed(folder).digest() == before
    CHANGES[change](folder)
    assert listed(folder).digest() != before


def test_its_digest_is_that_of_the_files_and_their_order(folder: Path) -> None:
    found = listed(folder)
    assert found[::-1].digest() != found.digest()
    assert found[2:4].digest() == listed(folder)[2:4].digest() != found[2:5].digest()
    (folder.parent / "link").symlink_to(folder)
    assert listed(folder.parent / "link").digest() == found.digest()


def test_it_takes_names_apart_in_parts_and_looks_at_a_folder_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = listed(folder)
    states, digest = list(found.states()), found.digest()
    looked_at: list[str] = []
    real = listing._real
    monkeypatch.setattr(listing, "_real", lambda name: looked_at.append(name) or real(name))
    monkeypatch.setattr(listing, "AT_ONCE", 2)
    assert list(found.states()) == states
    assert len(looked_at) == 4  # `a` is listed before and after the folder in it
    assert found.digest() == digest
