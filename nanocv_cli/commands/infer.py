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
    RuntimeOption,
    ServedRefOption,
    ThreadsOption,
    end_as_failed,
    number_option,
)
from nanocv_cli.output import emit, say, tell

if TYPE_CHECKING:
    from nanocv_cli.engine.infer import Answer
    from nanocv_cli.tasks.postprocessor import Result

    Answered = tuple[Answer, Result | None]

WARNINGS_SHOWN = 10
LIVE_AFTER = 16  # images, that are done before anyone could read a count
NO_CURSOR = ("dumb", "unknown")  # what TERM says of terminals on which nothing can be drawn over
SECONDS_BETWEEN_LINES = 10.0


def infer(
    images: Annotated[list[str], typer.Argument(help="Images, folders, globs; - reads one image from stdin.")],
    ref: ServedRefOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder for annotated copies.")] = None,
    top: Annotated[int | None, number_option(low=1, high=100_000, text="Most answers per image.")] = None,
    batch_size: Annotated[int, number_option(low=1, high=4096, text="Images in memory at a time.")] = 8,
    tile: Annotated[
        int | None,
        number_option(low=16, high=65_535, text="Cut images into squares of this many pixels that overlap."),
    ] = None,
    engine: RuntimeOption = None,
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
    """
    from nanocv_cli.api.model import load
    from nanocv_cli.errors import DataError
    from nanocv_cli.files import expect_folder
    from nanocv_cli.images.copies import AnnotatedCopies
    from nanocv_cli.images.sources import Images

    if out:
        expect_folder(out)
    sources = Images(images)
    copies = AnnotatedCopies(out, sources) if out else None
    model = load(ref, engine=engine, device=device, threads=threads, precision=precision)
    done = skipped = 0
    for answer, result in _counted(model.stream(sources, top, batch_size, tile or 0, keep_images=copies is not None)):
        done += 1
        line = {"path": answer.source.shown, "task": model.card.task}
        if result is None:
            skipped += 1
            if skipped <= WARNINGS_SHOWN:
                say(f"warning: skipped {answer.source.shown}: {answer.problem}")
            if as_json:
                emit({**line, "error": answer.problem})
            continue
        if copies and answer.image is not None:
            written = copies.write(answer.source, model.draw(answer.image, result))
            line["annotated"] = str(written)
            for name, image in result.attached().items():
                line[name] = str(copies.attach(written, name, image))
        if as_json:
            emit({**line, **result.to_json()})
        else:
            tell(f"{answer.source.shown}  {result.to_text()}")
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
