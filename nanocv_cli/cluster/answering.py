"""`nanocv infer --engine ray`: images listed once, those parts answered that are not whole, and what that came to."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from nanocv_cli import __version__
from nanocv_cli.api.model import load
from nanocv_cli.cluster.job import Job, open_job
from nanocv_cli.cluster.parts import Asked, Part, WholePart, model_hash
from nanocv_cli.cluster.ray_cluster import connected, expect_answer, expect_ray
from nanocv_cli.errors import RequestError
from nanocv_cli.images.sources import STDIN, Images


@dataclass(frozen=True)
class Settings:
    """How images are answered.

    Attributes:
        runtime: what each worker runs the graph by.
        address: of a running cluster, host and port; None: one on this machine.
        threads: processors of each worker; 0: one.
        precision, top, batch_size, tile: as `api.model` has them.
        part_images: images of a file of answers, at least; it is made a multiple of `batch_size`.
    """

    runtime: str
    address: str | None
    threads: int
    precision: str
    top: int | None
    batch_size: int
    tile: int
    part_images: int


@dataclass(frozen=True)
class Outcome:
    """What a job has come to.

    Attributes:
        model, task: by the model's card.
        images: all that were listed.
        skipped: those that could not be read.
        parts: files of answers.
        answered: images that this call has answered or found unreadable; the others were whole before.
        seconds: that it took, from when the cluster was there.
        workers: that were at work at a time; 0 where nothing was left to do.
        problems: of the first unreadable images, the path and why.
    """

    model: str
    task: str
    images: int
    skipped: int
    parts: int
    answered: int
    seconds: float
    workers: int
    problems: list[tuple[str, str]]

    @property
    def images_per_second(self) -> float | None:
        """Of this call; None where nothing was left to do."""
        return self.answered / self.seconds if self.answered else None


def answer_by_cluster(
    images: list[str], ref: str | None, folder: Path, settings: Settings, progress: Callable[[int, int], None]
) -> Outcome:
    """Answers images into the files of a folder, as far as these are not whole; see `job.py`.

    Args:
        images: as `sources.Images` takes them, but for standard input.
        ref: the model.
        folder: of the job.
        settings: how they are answered.
        progress: is told how many are done, of how many.

    Raises:
        NanocvError: what `Images`, `load`, `expect_answer`, `open_job` and `Cluster.answer` raise.
        MissingExtraError: Ray is not installed.
    """
    expect_ray()
    if settings.address is not None:
        expect_answer(settings.address)
    if STDIN in images:
        raise RequestError("- names no image that a cluster can read", "name files, folders, lists or URLs")
    sources = Images(images)
    threads = settings.threads or 1
    model = load(ref, engine=settings.runtime, device="cpu", threads=threads, precision=settings.precision)
    for _ in model.stream((), settings.top, settings.batch_size, settings.tile):  # whether it reads images at all
        pass
    graph = Path(model.origin).absolute()
    batches = -(-settings.part_images // settings.batch_size)
    asked = Asked(
        arguments=tuple(images),
        folder=str(Path.cwd()),
        model=str(graph),
        model_hash=model_hash(graph),
        runtime=settings.runtime,
        precision=settings.precision,
        top=settings.top,
        batch_size=settings.batch_size,
        tile=settings.tile,
        part_images=batches * settings.batch_size,
        version=__version__,
    )
    whole: list[WholePart] = []
    done = 0
    with open_job(folder, asked, (source.place for source in sources)) as job:

        def told(part: WholePart) -> None:
            nonlocal done
            whole.append(part)
            done += part.images
            progress(done, job.images)

        answered, seconds, workers = _answer_missing(job, settings.address, threads, told)
        whole.sort(key=lambda part: part.name)
        job.finish(whole)
    return Outcome(
        model=model.card.name,
        task=model.card.task,
        images=job.images,
        skipped=sum(part.skipped for part in whole),
        parts=len(whole),
        answered=answered,
        seconds=seconds,
        workers=workers,
        problems=list(chain.from_iterable(part.problems for part in whole)),
    )


def _answer_missing(
    job: Job, address: str | None, threads: int, told: Callable[[WholePart], None]
) -> tuple[int, float, int]:
    """Tells all parts that are whole, and has the others answered.

    Returns:
        images answered now, the seconds that took, and how many workers there were.
    """
    answered = 0

    def missing() -> Iterator[Part]:
        nonlocal answered
        for part in job.parts():
            whole = job.whole(part)
            if whole is None:
                answered += len(part.places)
                yield part
            else:
                told(whole)

    parts = missing()
    first = next(parts, None)
    if first is None:
        return 0, 0.0, 0
    job.begin()
    with connected(address) as cluster:
        workers = cluster.workers(threads)
        begin = time.monotonic()
        cluster.answer(job, chain((first,), parts), threads, told)
        return answered, time.monotonic() - begin, workers
