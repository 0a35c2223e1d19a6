"""`nanocv infer`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from nanocv_cli.commands.common import DebugFlag, JsonFlag, RefOption, emit, say

WARNINGS_SHOWN = 10


def infer(
    pictures: Annotated[list[str], typer.Argument(help="Pictures, folders, globs; - reads one picture from stdin.")],
    ref: RefOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder for annotated copies.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Answers per picture.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Pictures in memory at a time.")] = 8,
    threads: Annotated[int, typer.Option(min=0, help="ONNX Runtime threads; 0: it chooses.")] = 0,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Say what pictures show; JSON lines, annotated copies."""
    from nanocv_cli.config.project import project_root
    from nanocv_cli.inference.infer import AnnotatedCopies, answers
    from nanocv_cli.inference.reference import find_graph
    from nanocv_cli.inference.runner import Runner
    from nanocv_cli.inference.sources import expand
    from nanocv_cli.tasks.readers import reader_for

    sources = expand(pictures)
    runner = Runner(find_graph(ref, project_root()), threads)
    card, reader = runner.card, reader_for(runner.card.task)
    copies = AnnotatedCopies(out, pictures) if out else None
    done = skipped = 0
    for answer in answers(runner, sources, batch_size):
        done += 1
        path = answer.source.shown
        if answer.image is None:
            skipped += 1
            if skipped <= WARNINGS_SHOWN:
                say(f"warning: skipped {path}: {answer.problem}")
            if as_json:
                emit({"path": path, "task": card.task, "error": answer.problem})
            continue
        result = reader.decode(answer.outputs, card, top)[0]
        annotated = copies.write(answer.source, reader.draw(answer.image, result, card)) if copies else None
        if as_json:
            emit(
                {
                    "path": path,
                    "task": card.task,
                    **result.to_json(),
                    **({"annotated": str(annotated)} if annotated else {}),
                }
            )
        else:
            typer.echo(f"{path}  {result.to_text()}")
        if done % 1000 == 0 and sys.stderr.isatty():
            say(f"{done} pictures")
    if not done:
        say("warning: no pictures found")
    if skipped:
        say(f"skipped {skipped} of {done} pictures that could not be read")
    if skipped or not done:
        raise typer.Exit(1)
