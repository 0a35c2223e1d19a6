"""The set on disk: class folders of JPEGs, palette PNG masks, COCO annotations; and the archive of it all."""

import multiprocessing
import os
import signal
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from nanocv_cli.config.schema import FlowersConfig
from nanocv_cli.data.flowers.drawing import SPECIES, FlowerImage, draw_image
from nanocv_cli.files import atomic_path, write_json
from nanocv_cli.machine import usable_processors

JPEG_QUALITY = 88
# Background black; species in colours that stand apart.
MASK_PALETTE = (0, 0, 0, 240, 240, 240, 220, 40, 80, 250, 190, 20, 150, 80, 220)
CHUNK = 16

Job = tuple[int, str, int, int, Path]
Row = tuple[str, list[dict[str, Any]]]


def draw_set(
    config: FlowersConfig, folder: Path, progress: Callable[[int, int], None] | None = None, workers: int | None = None
) -> None:
    """Draws the whole set into a folder.

    Writes `{split}/<species>/<id>.jpg`, `masks/{split}/<species>/<id>.png` (0 background, 1.. species) and
    `annotations/{split}.json` (COCO).

    Args:
        config: seed, size and counts.
        folder: existing files of the same names are replaced.
        progress: called with (done, total).
        workers: processes; the result does not depend on it. None: one per usable processor.
    """
    splits = {"train": config.train, "val": config.val, "test": config.test}
    jobs: list[Job] = [
        (config.seed, split, i, config.size, folder) for split, count in splits.items() for i in range(count)
    ]
    for split in splits:
        for species in SPECIES:
            (folder / split / species).mkdir(parents=True, exist_ok=True)
            (folder / "masks" / split / species).mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[Row]] = {split: [] for split in splits}
    # Spawned workers start alike on macOS and Linux, and inherit no threads or locks.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers or usable_processors(), mp_context=context, initializer=_end_with_parent) as pool:
        with _blocked(signal.SIGINT):  # workers inherit it: Ctrl-C is the parent's to answer
            drawn = pool.map(_draw_job, jobs, chunksize=CHUNK)
        for done, (job, row) in enumerate(zip(jobs, drawn, strict=True), start=1):
            rows[job[1]].append(row)
            if progress:
                progress(done, len(jobs))
    for split, members in rows.items():
        write_json(folder / "annotations" / f"{split}.json", _coco(members, config.size))


@contextmanager
def _blocked(number: signal.Signals) -> Iterator[None]:
    """A signal that comes inside the block is answered after it."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _end_with_parent() -> None:
    """Ends this worker when its parent is gone, however that ended: nobody would take what it draws."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _draw_job(job: Job) -> Row:
    """Draws and writes one image; returns its file name and COCO annotations without ids."""
    seed, split, index, size, folder = job
    image = draw_image(seed, split, index, size)
    name = f"{SPECIES[image.label]}/{split}-{index:05d}"
    Image.fromarray(image.image).save(folder / split / f"{name}.jpg", quality=JPEG_QUALITY)
    mask = Image.frombytes("P", (size, size), image.mask.tobytes())
    mask.putpalette(MASK_PALETTE)
    mask.save(folder / "masks" / split / f"{name}.png", optimize=False)
    return f"{name}.jpg", _annotations(image)


def _annotations(image: FlowerImage) -> list[dict[str, Any]]:
    return [
        {
            "category_id": flower.species + 1,
            "bbox": [flower.box[0], flower.box[1], flower.box[2] - flower.box[0], flower.box[3] - flower.box[1]],
            "area": flower.area,
            "iscrowd": 0,
        }
        for flower in image.flowers
    ]


def _coco(members: list[Row], size: int) -> dict[str, Any]:
    """The split's COCO document."""
    images = [{"id": i, "file_name": name, "width": size, "height": size} for i, (name, _) in enumerate(members, 1)]
    boxes = [{"image_id": i, **box} for i, (_, annotations) in enumerate(members, 1) for box in annotations]
    annotations = [{"id": i, **box} for i, box in enumerate(boxes, 1)]
    categories = [{"id": i, "name": name} for i, name in enumerate(SPECIES, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_archive(folder: Path, archive: Path) -> None:
    """Packs a folder as an uncompressed tar, byte for byte the same for the same files; written atomically."""
    with atomic_path(archive) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                member = tarfile.TarInfo(path.relative_to(folder).as_posix())
                member.size, member.mode = path.stat().st_size, 0o644
                with path.open("rb") as content:
                    tar.addfile(member, content)
