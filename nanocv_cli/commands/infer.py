"""`nanocv infer`."""

import os
import sys
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nanocv_cli.commands.options import (
    DebugFlag,
    JsonFlag,
    PrecisionOption,
    RuntimeDeviceOption,
    ServedRefOption,
    ThreadsOption,
    end_as_failed,
    number_option,
)
from nanocv_cli.engine.runtimes import AUTO, CLUSTER, RUNTIMES, cluster_runtime
from nanocv_cli.errors import DataError, RequestError
from nanocv_cli.output import emit, say, tell

if TYPE_CHECKING:
    from nanocv_cli.cluster.answering import Settings
    from nanocv_cli.engine.infer import Answer
    from nanocv_cli.tasks.postprocessor import Result

    Answered = tuple[Answer, Result | None]

WARNINGS_SHOWN = 10
PART_IMAGES = 1000
LIVE_AFTER = 16  # images, that are done before anyone could read a count
NO_CURSOR = ("dumb", "unknown")  # what TERM says of terminals on which nothing can be drawn over
SECONDS_BETWEEN_LINES = 10.0


def infer(
    images: Annotated[
        list[str], typer.Argument(help="Images, folders, globs, .txt lists, s3:// URLs; - reads one image from stdin.")
    ],
    ref: ServedRefOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for annotated copies; with --engine ray, for the answers.")
    ] = None,
    top: Annotated[int | None, number_option(low=1, high=100_000, text="Most answers per image.")] = None,
    batch_size: Annotated[int, number_option(low=1, high=4096, text="Images in memory at a time.")] = 8,
    tile: Annotated[
        int | None,
        number_option(low=16, high=65_535, text="Cut images into squares of this many pixels that overlap."),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help=f"What runs the graph: {', '.join(RUNTIMES)}, or auto: the fastest one here; "
            "ray, ray:openvino: by the workers of a cluster."
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="A running cluster, with --engine ray; default: this machine alone."),
    ] = None,
    part_images: Annotated[
        int | None, number_option(low=1, high=1_000_000, text="Images per file of answers, with --engine ray.")
    ] = None,
    device: RuntimeDeviceOption = "auto",
    threads: ThreadsOption = 0,
    precision: PrecisionOption = "fp32",
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Say what images show; JSON lines, annotated copies.

    Each image becomes one line: its path and the answers. Whatever Pillow reads will do; a file that cannot be read
    is named on stderr, and the others go on. The graph prepares the pixels itself, so nothing needs to be told of
    size or normalisation.

    \b
    Examples:
      nanocv infer photo.jpg --model lenet-flowers --out annotated
      nanocv infer photos --model runs/first --json
      nanocv infer photo.jpg --model http://127.0.0.1:8000/lenet
      nanocv infer photos --model lenet-flowers --engine ray --out answers
    """
    from nanocv_cli.api.model import load
    from nanocv_cli.files import expect_folder
    from nanocv_cli.images.copies import AnnotatedCopies
    from nanocv_cli.images.sources import Images

    runtime = cluster_runtime(engine)
    if runtime is not None:
        if out is None:
            raise RequestError(f"--engine {engine} writes its answers to files", "name their folder: --out DIR")
        if device not in (AUTO, "cpu"):
            raise RequestError(f"--device {device}: workers of a cluster run on processors", "leave it out")
        from nanocv_cli.cluster.answering import Settings

        part = PART_IMAGES if part_images is None else part_images
        settings = Settings(runtime, ray_address, threads, precision, top, batch_size, tile or 0, part)
        _answer_by_cluster(images, ref, out, settings, as_json)
        return
    for option, value in (("--ray-address", ray_address), ("--part-images", part_images)):
        if value is not None:
            raise RequestError(f"{option} is of a cluster", f"--engine {CLUSTER}")
    if out:
        expect_folder(out)
    sources = Images(images)
    copies = AnnotatedCopies(out, sources) if out else None
    model = load(ref, engine=engine, device=device, threads=threads, precision=precision)
    done = skipped = 0
    for answer, result in _counted(model.stream(sources, top, batch_size, tile or 0, keep_images=copies is not None)):
        done += 1
        if result is None:
            skipped += 1
            if skipped <= WARNINGS_SHOWN:
                _warn(answer.source.shown, answer.problem)
            if as_json:
                emit(model.line(answer, result))
            continue
        annotations: dict[str, str] = {}
        if copies and answer.image is not None:
            written = copies.write(answer.source, model.draw(answer.image, result))
            annotations["annotated"] = str(written)
            for name, image in result.attached().items():
                annotations[name] = str(copies.attach(written, name, image))
        if as_json:
            emit(model.line(answer, result, **annotations))
        else:
            tell(f"{answer.source.shown}  {result.to_text()}")
    _end_where_skipped(skipped, done)


def _answer_by_cluster(images: list[str], ref: str | None, out: Path, settings: "Settings", as_json: bool) -> None:
    """Has images answered by a cluster, and tells what that came to."""
    from nanocv_cli.cluster.answering import answer_by_cluster
    from nanocv_cli.display import Display

    with Display().bar("answering") as progress:
        outcome = answer_by_cluster(images, ref, out, settings, progress)
    for shown, problem in outcome.problems[:WARNINGS_SHOWN]:
        _warn(shown, problem)
    pace = outcome.images_per_second
    if as_json:
        emit(
            {
                "out": str(out),
                "model": outcome.model,
                "task": outcome.task,
                "images": outcome.images,
                "skipped": outcome.skipped,
                "parts": outcome.parts,
                "answered": outcome.answered,
                "seconds": outcome.seconds,
                "images_per_second": pace,
                "workers": outcome.workers,
            }
        )
    else:
        now = "all of them were there" if pace is None else f"{outcome.answered:,} of them now, {pace:,.1f} a second"
        tell(f"{out}  {outcome.images:,} images in {outcome.parts:,} files, {now}")
    _end_where_skipped(outcome.skipped, outcome.images)


def _warn(shown: str, problem: str) -> None:
    say(f"warning: skipped {shown}: {problem}")


def _end_where_skipped(skipped: int, done: int) -> None:
    if skipped:
        end_as_failed(
            DataError(f"skipped {skipped} of {done} images that could not be read", "replace or remove those files")
        )


def _counted(stream: "Iterator[Answered]") -> "Iterator[Answered]":
    """Passes answers on and tells on stderr how many there were: a live count on a terminal, else a line now and then.

    Where stdout is a terminal too, the answers themselves show how far it is.
    """
    if sys.stdout.isatty():
        yield from stream
    elif sys.stderr.isatty() and os.environ.get("TERM") not in NO_CURSOR:
        yield from _counted_live(stream)
    else:
        last = time.monotonic()
        for done, answer in enumerate(stream, start=1):
            yield answer
            if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                say(f"{done} images")


def _counted_live(stream: "Iterator[Answered]") -> "Iterator[Answered]":
    yield from islice(stream, LIVE_AFTER)
    following = next(stream, None)
    if following is None:
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed} images"), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True, redirect_stdout=False) as progress:
        count = progress.add_task("", completed=LIVE_AFTER)
        for answer in chain((following,), stream):
            yield answer
            progress.advance(count)
