"""From a data config to a folder of images: pulled by DVC, reproduced, drawn, or the user's own."""

import math
import os
from collections.abc import Callable
from pathlib import Path

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.archive import STAMP, adopt, is_unpacked, md5_of, place_of, unpack
from nanocv_cli.data.formats.shards import SHARDS
from nanocv_cli.display import Display
from nanocv_cli.dvc import retrieve
from nanocv_cli.dvc.records import Tracked, tracked_files
from nanocv_cli.dvc.retrieve import default_remote
from nanocv_cli.errors import DataError, RequestError
from nanocv_cli.files import expect_folder, expect_writable, folder_beside
from nanocv_cli.images.remote_files import is_remote
from nanocv_cli.machine import usable_processors
from nanocv_cli.untrusted import open_regular

SECONDS_PER_PIXEL = 4e-7  # that drawing takes on one processor: 26 ms for 256x256

Say = Callable[[str], None]


def image_folder(config: DataConfig, root: Path, display: Display) -> Path:
    """The folder of a set's images, unpacked from its archive where that is newer.

    What lies at a URL stays there. A set that is not here is copied from the project's own remote, where that is a
    folder, or drawn, and one line says so. Nothing is downloaded.

    Raises:
        RequestError: a URL of what nanocv does not read from one.
        DataError: neither the folder nor the archive is there or can be had in these ways, or the archive is damaged.
        StorageError: what was copied or drawn cannot be written.
    """
    folder = root / config.path
    if is_remote(config.path):
        if config.format != SHARDS:
            raise RequestError(
                f"data set {config.name} is at a URL, where nanocv reads shards alone", "--set data.format=shards"
            )
        return folder
    archive = root / config.archive if config.archive else None
    tracked = tracked_files(root).get(config.archive) if config.archive else None
    if archive and not archive.is_file() and not folder.is_dir():
        remote = default_remote(root)
        if tracked and remote and retrieve.fetch(root, tracked, remote):
            display.say(f"{config.archive} was not here: taken from the repository's own remote")
        elif config.flowers:
            draw(config, root, archive, display)
    if archive and archive.is_file() and not is_unpacked(archive, folder):
        display.say(f"unpacking {config.archive}")
        unpack(archive, folder, tracked.md5 if tracked else None)
    if not folder.is_dir():
        own = "bring the folder back, or say where it is now: --data FOLDER (--resume: path in the run's config.yaml)"
        hint = f"nanocv data pull {config.name}" if config.archive else own
        raise DataError(f"the images of {config.name} are not here ({folder})", hint)
    return folder


def pull_set(config: DataConfig, root: Path, display: Display, remote: str | None = None) -> str:
    """Brings a set here: by `dvc pull`, else by its stage, else (outside a DVC project) by drawing it.

    Returns:
        how it came: `here` (it was already), `pulled`, `reproduced` or `drawn`.

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
        draw(config, root, root / config.archive, display)
        return "drawn"
    how = pull_files(root, [config.archive], display.say, remote)
    image_folder(config, root, display)
    return how


def pull_files(root: Path, paths: list[str], say: Say, remote: str | None = None) -> str:
    """Brings tracked files here by `dvc pull`, else by reproducing their stages; says which.

    Returns:
        `here`, `pulled` or `reproduced`.

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
    # Such as a set that was drawn when first needed: DVC only has to be told.
    if all(_is_as_recorded(root, tracked[path]) for path in paths) and all(
        retrieve.commit(root, one) for one in stages
    ):
        return "here"
    say(f"the remote does not hold {', '.join(paths)}: reproducing stage {', '.join(stages)}")
    for stage in stages:
        retrieve.reproduce(root, stage)
    return "reproduced"


def _is_as_recorded(root: Path, file: Tracked) -> bool:
    try:
        with open_regular(root / file.path) as content:
            return md5_of(content) == file.md5
    except OSError:
        return False


def draw(config: DataConfig, root: Path, archive: Path, display: Display) -> None:
    """Draws a synthetic set, writes its archive and leaves its folder unpacked; says how long that may take.

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
    wanted = config.flowers
    count, workers = wanted.train + wanted.val + wanted.test, usable_processors()
    seconds = count * SECONDS_PER_PIXEL * wanted.size**2 / workers
    display.say(f"drawing {config.name}: {count:,} images, about {math.ceil(seconds)} s on {workers} processors")
    with folder_beside(folder) as temporary, display.bar(f"drawing {config.name}") as progress:
        draw_set(wanted, temporary, progress)
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
