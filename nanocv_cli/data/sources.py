"""From a data config to a folder of images: pulled by DVC, reproduced, drawn, or the user's own."""

import os
from collections.abc import Callable
from pathlib import Path

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.archive import STAMP, adopt, is_unpacked, place_of, unpack
from nanocv_cli.dvc import retrieve
from nanocv_cli.dvc.records import tracked_files
from nanocv_cli.dvc.retrieve import default_remote
from nanocv_cli.errors import DataError, RequestError
from nanocv_cli.files import expect_folder, expect_writable, folder_beside

Say = Callable[[str], None]
Progress = Callable[[int, int], None]


def image_folder(config: DataConfig, root: Path, say: Say) -> Path:
    """The folder of a set's images, unpacked from its archive where that is newer. Nothing is downloaded.

    Raises:
        DataError: neither the folder nor the archive is there, or the archive is damaged.
    """
    folder = root / config.path
    archive = root / config.archive if config.archive else None
    if archive and archive.is_file() and not is_unpacked(archive, folder):
        say(f"unpacking {config.archive}")
        unpack(archive, folder, recorded_md5(config, root))
    if not folder.is_dir():
        raise DataError(f"the images of {config.name} are not here ({folder})", f"nanocv data pull {config.name}")
    return folder


def recorded_md5(config: DataConfig, root: Path) -> str | None:
    """The archive's MD5 as DVC recorded it, where it did."""
    tracked = tracked_files(root).get(config.archive or "")
    return tracked.md5 if tracked else None


def pull_set(config: DataConfig, root: Path, say: Say, progress: Progress, remote: str | None = None) -> str:
    """Brings a set here: by `dvc pull`, else by its stage, else (outside a DVC project) by drawing it.

    Returns:
        how it came: `pulled`, `reproduced` or `drawn`.

    Raises:
        RequestError: the set has no archive: it is a folder of the user's own.
        DataError: it cannot be had in any of these ways.
    """
    if config.archive is None:
        raise RequestError(f"{config.name} is a folder of your own ({config.path}): there is nothing to pull")
    tracked = tracked_files(root).get(config.archive)
    if tracked is None:
        if config.flowers is None:
            raise DataError(
                f"{config.archive} is not tracked by DVC in {root}", f"track it: dvc add {config.archive} && dvc push"
            )
        say(f"no DVC project here tracks {config.archive}: drawing {config.name}")
        draw(config, root, root / config.archive, progress)
        return "drawn"
    how = pull_files(root, [config.archive], say, remote)
    image_folder(config, root, say)
    return how


def pull_files(root: Path, paths: list[str], say: Say, remote: str | None = None) -> str:
    """Brings tracked files here by `dvc pull`, else by reproducing their stages; says which.

    Returns:
        `pulled` or `reproduced`.

    Raises:
        DataError: the remote does not hold them and no stage makes them, or the stage failed.
    """
    tracked = tracked_files(root)
    if all(tracked[path].md5 and tracked[path].pushed for path in paths):
        own = None if remote else default_remote(root)
        # DVC is not asked for what a folder does not hold: its failure would be told before what is done about it.
        missing = own is not None and any(own.lacks(tracked[path]) for path in paths)
        if not missing and retrieve.pull(root, paths, remote):
            return "pulled"
    stages = sorted({stage for path in paths if (stage := tracked[path].stage)})
    if not stages:
        raise DataError(
            f"the remote does not hold {', '.join(paths)}, and no stage of dvc.yaml makes it", "dvc push it"
        )
    say(f"the remote does not hold {', '.join(paths)}: reproducing stage {', '.join(stages)}")
    for stage in stages:
        retrieve.reproduce(root, stage)
    return "reproduced"


def draw(config: DataConfig, root: Path, archive: Path, progress: Progress) -> None:
    """Draws a synthetic set, writes its archive and leaves its folder unpacked.

    Raises:
        RequestError: the set is not one that nanocv draws.
        DataError: its folder holds something else.
        StorageError: archive or folder cannot be written.
    """
    from nanocv_cli.data.flowers import draw_set, write_archive

    if config.flowers is None:
        raise RequestError(f"{config.name} is no set that nanocv draws", "nanocv data make flowers")
    folder = place_of(root / config.path)
    # Drawing takes long: whether its result can be put in place is found out before.
    expect_writable(archive)
    _expect_drawable(folder, root)
    if Path(os.path.realpath(archive)).is_relative_to(os.path.realpath(folder)):
        raise RequestError(f"{archive} lies in the folder of the images, {folder}", "choose another --out")
    with folder_beside(folder) as temporary:
        draw_set(config.flowers, temporary, progress)
        write_archive(temporary, archive)
        adopt(temporary, folder, archive.stat())


def _expect_drawable(folder: Path, root: Path) -> None:
    """Makes sure that a folder can be replaced by a set's images: it is not there, empty, or was made by nanocv.

    Raises:
        RequestError: it holds something else, or the project.
    """
    expect_folder(folder)
    place = Path(os.path.realpath(folder))
    if root.resolve().is_relative_to(place) or Path.cwd().is_relative_to(place):
        raise RequestError(f"data.path is {folder}, which holds the project itself", "--set data.path=data/NAME")
    if folder.is_dir() and not (folder / STAMP).is_file() and any(folder.iterdir()):
        raise RequestError(
            f"{folder} holds files that nanocv has not put there", "move it away, or --set data.path=data/NAME"
        )
