"""`nanocv runs`: the list, rm, prune."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nanocv_cli.commands.completion import completing, run_names
from nanocv_cli.commands.options import DebugFlag, JsonFlag
from nanocv_cli.errors import RequestError
from nanocv_cli.output import emit, say, tell

if TYPE_CHECKING:
    from nanocv_cli.training.run_list import Run

DryRunFlag = Annotated[bool, typer.Option("--dry-run", help="Say what would be removed; remove nothing.")]
YesFlag = Annotated[bool, typer.Option("--yes", help="Do not ask; needed where no terminal can answer.")]


def list_all(context: typer.Context, as_json: JsonFlag = False, debug: DebugFlag = False) -> None:
    """Runs with their score, time and size; finished, interrupted or running.

    Without a command: all runs at any depth under runs/, newest first. The score is that of the metric by which the
    task is evaluated, on the held-out split once a run is finished, on val before.

    \b
    Examples:
      nanocv runs
      nanocv runs rm lenet-flowers-20261126-120000
      nanocv runs prune --dry-run
    """
    if context.invoked_subcommand is not None:
        if as_json or debug:
            raise RequestError(
                f"an option stands before {context.invoked_subcommand}", "write options behind the command"
            )
        return
    from nanocv_cli.config.project import project_root
    from nanocv_cli.training.run_list import list_runs

    root = project_root()
    runs = list_runs(root)
    if as_json:
        emit({"runs": [_document(run) for run in runs]})
        return
    if not runs:
        say(f"no runs in {root / 'runs'}")
        return
    tell(*_table([("run", "state", "model", "task", "data", "from", "score", "epochs", "time", "size", "when"),
                  *(_row(run) for run in runs)]))  # fmt: skip


def remove(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Names as `nanocv runs` lists them, or folders.",
            autocompletion=completing(run_names),
        ),
    ],
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Remove runs; one that is being written stays.

    Names are those that `nanocv runs` lists. It asks on a terminal and needs --yes elsewhere; where one of several
    names is wrong, nothing is removed.

    \b
    Example:
      nanocv runs rm lenet-flowers-20261126-120000 --yes
    """
    from nanocv_cli.config.project import project_root
    from nanocv_cli.training.run_removal import find_runs

    root = project_root()
    doomed = find_runs(names, root)
    if not as_json:
        tell(*(f"{'would go' if dry_run else 'goes'}  {run.name}  {_size(run.bytes)}" for run in doomed))
    removed = _remove(doomed, root, dry_run, yes, as_json)
    if as_json:
        emit({"removed": [_document(run) for run in removed], "dry_run": dry_run})


def prune(
    interrupted: Annotated[bool, typer.Option("--interrupted", help="Interrupted runs too.")] = False,
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Remove finished runs but for the newest and the best of each model and data set.

    What is best is decided by the metric of the task; where a task keeps its last weights whatever they score, the
    newest is the best. Interrupted runs stay unless --interrupted is given; what is being written, cannot be ranked
    or lies behind a link always does.

    \b
    Examples:
      nanocv runs prune --dry-run
      nanocv runs prune --interrupted --yes
    """
    from nanocv_cli.config.project import project_root
    from nanocv_cli.training.run_list import list_runs
    from nanocv_cli.training.run_removal import decide_removal

    root = project_root()
    decisions = decide_removal(list_runs(root), root, interrupted)
    doomed = [decision.run for decision in decisions if not decision.kept]
    if not as_json:
        rows = [
            (_fate(decision.kept, dry_run), decision.run.name, _score(decision.run), decision.why)
            for decision in decisions
        ]
        tell(*_table(rows))
    removed = _remove(doomed, root, dry_run, yes, as_json)
    if as_json:
        kept = [_document(decision.run) | {"why": decision.why} for decision in decisions if decision.kept]
        emit({"removed": [_document(run) for run in removed], "kept": kept, "dry_run": dry_run})


def _remove(doomed: "Sequence[Run]", root: Path, dry_run: bool, yes: bool, as_json: bool) -> "Sequence[Run]":
    """Removes runs once somebody agrees; returns those that went, or would."""
    from nanocv_cli.training.run_removal import remove_run

    if not doomed:
        say("nothing to remove")
        return []
    if dry_run:
        return doomed
    count = f"{len(doomed)} run{'' if len(doomed) == 1 else 's'}"
    size = _size(sum(run.bytes for run in doomed))
    if not yes and not _agreed(f"remove {count}, {size}? [y/N]", f"{count} would go; nothing was removed", as_json):
        say("nothing was removed")
        return []
    for run in doomed:
        remove_run(run, root)
    say(f"removed {count}, {size}")
    return doomed


def _agreed(question: str, refusal: str, as_json: bool) -> bool:
    """Asks on a terminal.

    Raises:
        RequestError: there is none.
    """
    if as_json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise RequestError(refusal, "add --yes; --dry-run shows what would go")
    say(question)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _document(run: "Run") -> dict[str, Any]:
    return {
        "run": run.name,
        "path": str(run.folder),
        "state": run.state,
        "model": run.model,
        "task": run.task,
        "data": run.data,
        "start": run.start,
        "metric": run.metric,
        "score": run.score,
        "split": run.split,
        "epochs": run.epochs,
        "epochs_asked": run.epochs_asked,
        "seconds": run.seconds,
        "bytes": run.bytes,
        "when": datetime.fromtimestamp(run.when, UTC).isoformat(timespec="seconds"),
    }


def _row(run: "Run") -> tuple[str, ...]:
    epochs = f"{_known(run.epochs)}/{_known(run.epochs_asked)}"
    when = datetime.fromtimestamp(run.when).strftime("%Y-%m-%d %H:%M")
    names = (_known(name) for name in (run.model, run.task, run.data, run.start))
    return (run.name, run.state, *names, _score(run), epochs, _time(run.seconds), _size(run.bytes), when)


def _score(run: "Run") -> str:
    if run.score is None:
        return "-"
    value = run.law.shown(run.score) if run.law else f"{run.score:.4f}"
    return f"{run.metric} {value}" + (f" ({run.split})" if run.split else "")


def _known(value: object) -> str:
    return "-" if value is None else str(value)


def _fate(is_kept: bool, dry_run: bool) -> str:
    return "stays" if is_kept else "would go" if dry_run else "goes"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {rest:02d} s"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
