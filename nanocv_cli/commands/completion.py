"""Completion by the shell: the names that options take, the script that asks for them, and the answer to it.

Shells split, expand and (zsh) evaluate what they are answered, so that only names are offered that no shell gives a
meaning to; files and folders they complete by themselves.
"""

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from nanocv_cli.errors import NanocvError, RequestError, StorageError
from nanocv_cli.output import say, tell

PROGRAM = "nanocv"
VARIABLE = "_NANOCV_COMPLETE"  # by this the shell's script asks: `complete_bash`, `complete_zsh`, `complete_fish`
PLAIN_NAME = r"[A-Za-z0-9._/][A-Za-z0-9._/-]*"
WEIGHTS = {".safetensors", ".onnx"}

# The names of one kind: of a project, by what of the word is typed already.
Names = Callable[[Path, str], Iterable[str]]
Completer = Callable[[str], list[str]]


def completing(*kinds: Names) -> Completer:
    """What an option completes its value by: names of these kinds that begin with what is typed."""

    def complete(incomplete: str) -> list[str]:
        from nanocv_cli.config.project import project_root

        root, found = project_root(), set[str]()
        for names in kinds:
            with suppress(OSError, NanocvError):  # nothing to offer; the command will say what is wrong
                found.update(names(root, incomplete))
        return sorted(name for name in found if name.startswith(incomplete) and re.fullmatch(PLAIN_NAME, name))

    return complete


def config_names(group: str) -> Names:
    """Configs of a group: the project's and the shipped ones."""

    def names(root: Path, typed: str) -> Iterable[str]:
        from nanocv_cli.config.project import config_folders

        return (path.stem for folder in config_folders(root) for path in (folder / group).glob("*.yaml"))

    return names


def torchvision_names(root: Path, typed: str) -> Iterable[str]:
    """Networks of torchvision, once a letter is typed: they are a hundred."""
    from nanocv_cli.config import torchvision_names as lists

    tables = (lists.TORCHVISION_CLASSIFIERS, lists.TORCHVISION_DETECTORS, lists.TORCHVISION_SEGMENTERS)
    return (name for table in tables for name in table) if typed else ()


def weight_names(root: Path, typed: str) -> Iterable[str]:
    """Pretrained weights, here or to be pulled."""
    for path in (root / "weights").glob("*"):
        tracked = path.with_suffix("") if path.suffix == ".dvc" else path
        if tracked.suffix in WEIGHTS:
            yield tracked.stem


def model_names(root: Path, typed: str) -> Iterable[str]:
    """Models that there are weights of: trained, or pretrained for some set (`lenet` for `lenet-flowers`)."""
    from nanocv_cli.engine.reference import finished_runs

    yield from (run.model for run in finished_runs(root))
    pretrained = list(weight_names(root, typed))
    for name in config_names("model")(root, typed):
        if any(weights.startswith(f"{name}-") for weights in pretrained):
            yield name


def run_names(root: Path, typed: str) -> Iterable[str]:
    """Runs, finished or not."""
    from nanocv_cli.training.run_list import run_folders, run_name

    return (run_name(folder, root) for folder in run_folders(root))


def word(text: str) -> Names:
    """A word that stands beside names."""
    return lambda root, typed: [text]


def answer_shell(command: Any, instruction: str) -> int:
    """Answers the shell's script on stdout, and nothing on stderr, where the user is typing.

    Args:
        command: the tree of commands.
        instruction: what `VARIABLE` holds.

    Returns:
        the exit status.
    """
    from typer.completion import completion_init, shell_complete  # type: ignore[attr-defined]

    completion_init()
    try:
        return shell_complete(command, {}, PROGRAM, VARIABLE, instruction)
    except Exception:  # whatever it is, a traceback between the letters of a command helps nobody
        return 1


def show(context: typer.Context, is_wanted: bool) -> None:
    """Prints the script of the shell that nanocv was started from."""
    if is_wanted and not context.resilient_parsing:
        tell(*_script(_shell()).splitlines())
        raise typer.Exit


def install(context: typer.Context, is_wanted: bool) -> None:
    """Writes that script where the shell finds it, and the line that reads it into the shell's start file."""
    if not is_wanted or context.resilient_parsing:
        return
    from nanocv_cli.files import write_text

    shell, home = _shell(), Path.home()
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    script, start_file, line = {
        "bash": (
            home / ".bash_completions" / f"{PROGRAM}.sh",
            home / ".bashrc",
            f"source ~/.bash_completions/{PROGRAM}.sh",
        ),
        "zsh": (
            home / ".zfunc" / f"_{PROGRAM}",
            Path(os.environ.get("ZDOTDIR") or home) / ".zshrc",
            "fpath+=~/.zfunc; autoload -Uz compinit; compinit",
        ),
        "fish": (settings / "fish" / "completions" / f"{PROGRAM}.fish", None, ""),
    }[shell]
    write_text(script, _script(shell) + "\n")
    tell(f"script      {script}")
    if start_file is not None and _append_line(start_file, line):
        tell(f"start file  {start_file}: {line}")
    say(f"{shell} completes from the next terminal on")
    raise typer.Exit


def _append_line(path: Path, line: str) -> bool:
    """Adds a line to a file unless it is there; what stands there is never rewritten.

    Raises:
        StorageError: it cannot be.
    """
    try:
        former = path.read_bytes() if path.exists() else b""
        if line.encode() in former.splitlines():
            return False
        with path.open("ab") as file:
            file.write((b"" if former.endswith(b"\n") or not former else b"\n") + line.encode() + b"\n")
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}", f"add the line yourself: {line}"
        ) from error
    return True


def _script(shell: str) -> str:
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    return get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell)


def _shell() -> str:
    """The shell that started nanocv, else the user's own.

    Raises:
        RequestError: it is none that can be served.
    """
    from shellingham import ShellDetectionFailure, detect_shell

    try:
        name = str(detect_shell()[0])
    except ShellDetectionFailure:
        name = Path(os.environ.get("SHELL", "")).name
    if name not in ("bash", "zsh", "fish"):
        raise RequestError(f"no completion for {name or 'a shell that cannot be found out'}", "use bash, zsh or fish")
    return name
