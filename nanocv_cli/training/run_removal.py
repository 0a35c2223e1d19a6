"""Runs removed: those that are named, or those that a newer and a better one of the same kind make needless.

What is being written is never touched. A run's folder goes in one step: whoever looks finds it whole or not at all,
and what a process that was killed at it leaves is removed by the next one that writes there.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nanocv_cli.config.nearest import nearest
from nanocv_cli.engine.reference import SUMMARY, read_summary
from nanocv_cli.errors import NanocvError, RequestError, StorageError, TrainingError
from nanocv_cli.files import PREFIX, is_locked, part_folder
from nanocv_cli.training.run_directory import LOCK, RunDirectory
from nanocv_cli.training.run_list import Run, read_run, run_folders, run_name


@dataclass(frozen=True)
class Decision:
    """What `prune` does with a run, and why.

    Attributes:
        run: the run.
        kept: whether it stays.
        why: in a few words.
    """

    run: Run
    kept: bool
    why: str


def find_runs(names: Sequence[str], root: Path) -> list[Run]:
    """Runs by their names or folders, each once, that can all be removed.

    Args:
        names: as `list_runs` has them, or paths of run folders under `root/runs`.
        root: the project.

    Raises:
        RequestError: one is no run under `root/runs`, or lies behind a link.
        TrainingError: one is being written.
    """
    known = {run_name(folder, root): folder for folder in run_folders(root)}
    found = {}
    for name in names:
        key = name if name in known else os.path.relpath(os.path.realpath(name), os.path.realpath(root / "runs"))
        if key not in known:
            hint = nearest(name, known) or ("nanocv runs lists them" if known else f"there is none in {root / 'runs'}")
            raise RequestError(f"no run {name!r}", hint)
        found[key] = known[key]
    for folder in found.values():
        if obstacle := _obstacle(folder, root):
            raise obstacle
    return [read_run(folder, root) for folder in found.values()]


def decide_removal(runs: Iterable[Run], root: Path, with_interrupted: bool) -> list[Decision]:
    """Which runs stay: of each model and data set the newest and the best finished one, by the task's own law.

    Scores of different sets, splits and metrics do not compare, so each has a best of its own; where a task keeps the
    last weights whatever they score, the newest run is the best. What cannot be ranked stays.

    Args:
        runs: of the project.
        root: the project.
        with_interrupted: whether interrupted runs go.
    """
    groups: dict[tuple[str | None, ...], list[Run]] = {}
    decisions = []
    for run in sorted(runs, key=lambda one: (one.when, one.name)):
        if obstacle := _obstacle(run.folder, root):
            decisions.append(Decision(run, True, obstacle.message))
        elif run.state == "interrupted":
            decisions.append(Decision(run, not with_interrupted, "interrupted"))
        elif run.model is None or run.law is None or run.score is None:
            decisions.append(Decision(run, True, "cannot be ranked"))
        else:
            groups.setdefault((run.model, run.data, run.task, run.metric, run.split), []).append(run)
    for group in groups.values():
        best = _best(group)
        for run in group:
            why = " and ".join(word for word, is_it in (("newest", run is group[-1]), ("best", run is best)) if is_it)
            of = f"of {run.model} on {run.data}"
            decisions.append(Decision(run, bool(why), f"{why} {of}" if why else f"neither newest nor best {of}"))
    return sorted(decisions, key=lambda decision: (-decision.run.when, decision.run.name))


def remove_run(run: Run, root: Path) -> None:
    """Removes a run's folder.

    Raises:
        TrainingError: somebody has begun to write it.
        RequestError: it lies behind a link, or was interrupted when it was looked at and is finished now.
        StorageError: it cannot be removed.
    """
    with RunDirectory(run.folder) as directory:
        try:
            directory.lock()
            if obstacle := _obstacle(run.folder, root, is_ours=True):
                raise obstacle
            if run.state == "interrupted" and read_summary(run.folder):
                raise RequestError(f"{run.folder} has been finished meanwhile; it stays", "nanocv runs lists it")
            with part_folder(run.folder.parent) as doomed:
                moved = run.folder.rename(doomed / run.folder.name)
                shutil.rmtree(moved)
        except TrainingError as error:
            raise _being_written(run.folder) from error
        except OSError as error:
            raise StorageError(
                f"cannot remove {run.folder}: {error.strerror or error}", "see who owns the folder, and its permissions"
            ) from error


def _best(runs: Sequence[Run]) -> Run:
    """The best of runs that can be ranked, from the oldest to the newest."""
    best = runs[0]
    for run in runs[1:]:
        assert run.law is not None and run.score is not None
        if run.law.better(run.score, best.score):
            best = run
    return best


def _obstacle(folder: Path, root: Path, is_ours: bool = False) -> NanocvError | None:
    """Why a run's folder cannot be removed; None where it can.

    Args:
        folder: the run's.
        root: the project.
        is_ours: whether this process holds the run's own lock.
    """
    top = root / "runs"
    place = os.path.realpath(folder)
    if Path(place) != Path(os.path.realpath(top), folder.relative_to(top)):
        return RequestError(f"{folder} lies behind a link, in {place}", "remove it there by hand, and the link")
    for inside, folders, files in os.walk(folder):
        if inside != str(folder) and not {LOCK, SUMMARY}.isdisjoint(files):
            return RequestError(f"{folder} holds another run, {inside}", "move that one elsewhere first")
        written = [name for name in (*folders, *files) if name.startswith(PREFIX) or name == LOCK]
        if any(is_locked(Path(inside, name)) for name in written if not (is_ours and name == LOCK)):
            return _being_written(folder)
    return None


def _being_written(folder: Path) -> TrainingError:
    return TrainingError(f"{folder} is being written; it stays", "stop the process that trains or exports there first")
